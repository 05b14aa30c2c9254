package gateway

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/rollout"
)

// exposure is one rollout at this gateway.
type exposure struct {
	rollout  string
	splitter *rollout.Splitter
	reserve  int64     // tokens, where nobody names a limit; 0: tokens are not counted
	drawer   string    // who draws: totals begin anew with it
	answered time.Time // when the last draw began that the pool answered; the lane's lock guards it
}

// newExposure begins a rollout without credit.
func (g *Gateway) newExposure(r lifecycle.Route, policy lifecycle.Exposure) (*exposure, error) {
	splitter, err := rollout.NewSplitter(rollout.Config{
		Key: r.BandKey, Band: policy.Band, Cap: policy.Cap, Threshold: policy.Threshold, Tokens: policy.Tokens, Pooled: true,
	})
	if err != nil {
		return nil, lifecycle.Wrap(err, "begin rollout %s", r.Rollout)
	}
	return &exposure{
		rollout: r.Rollout, splitter: splitter, reserve: policy.Reserve, drawer: g.config.ID + "/" + rand.Text(), answered: g.config.Now(),
	}, nil
}

// drawTime bounds one question to the pool. No request waits for it.
const drawTime = 2 * time.Second

// keepDrawing tells the pool what was earned here and draws units ahead of the requests that need them: at once
// where that is urgent, else every Config.DrawAll, and every lifecycle.LeaseRenewal so that the pool knows of this
// gateway. One question is under way at a time, so a slow pool is asked less.
func (l *lane) keepDrawing(ctx context.Context) {
	pace, alive := time.NewTicker(l.g.config.DrawAll), time.NewTicker(lifecycle.LeaseRenewal)
	defer pace.Stop()
	defer alive.Stop()
	for {
		worth := true
		select {
		case <-ctx.Done():
			return
		case <-l.draw:
		case <-alive.C:
		case <-pace.C:
			worth = l.worthDrawing()
		}
		if worth && l.drawOnce(ctx) != nil {
			select { // what is away is not asked at the pace of requests
			case <-ctx.Done():
				return
			case <-pace.C:
			}
		}
	}
}

func (l *lane) worthDrawing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.exposure == nil {
		return false
	}
	worth, _ := l.exposure.splitter.Due()
	return worth
}

// drawOnce asks the pool once. Without an answer nothing is granted and nobody tosses.
func (l *lane) drawOnce(ctx context.Context) error {
	l.mu.Lock()
	e := l.exposure
	l.drawing = e != nil && e.splitter.Share() > 0
	asks := l.drawing
	l.mu.Unlock()
	if !asks {
		return nil
	}
	defer func() {
		l.mu.Lock()
		l.drawing = false
		l.mu.Unlock()
	}()
	began := l.g.config.Now()
	draw := e.splitter.Draw(e.drawer)
	limited, cancel := context.WithTimeout(ctx, drawTime)
	defer cancel()
	grant, err := l.g.config.Store.DrawCredit(limited, l.name, e.rollout, draw)
	l.away(ctx, drawCredit, err)
	if err != nil {
		e.splitter.Unanswered(draw)
		l.g.exposed.undrawn.WithLabelValues(l.name).Inc()
		return err
	}
	if err := e.splitter.Deposit(draw, grant); err != nil {
		l.log.ErrorContext(ctx, "credit is not taken", "error", err)
	}
	l.g.exposed.pool.WithLabelValues(l.name).Set(float64(grant.Total) / float64(lifecycle.Whole))
	l.mu.Lock()
	e.answered = began
	l.mu.Unlock()
	l.drawIfUrgent(e)
	return nil
}

func (l *lane) drawIfUrgent(e *exposure) {
	if _, urgent := e.splitter.Due(); urgent {
		l.pokeDraw()
	}
}

// pokeDraw wakes who draws. It never waits.
func (l *lane) pokeDraw() {
	select {
	case l.draw <- struct{}{}:
	default:
	}
}

// expire gives up units that the pool may soon count as lost. The lock is held.
func (l *lane) expire() {
	e := l.exposure
	if now := l.g.config.Now(); now.Sub(e.answered) >= lifecycle.LeaseTime {
		e.splitter.Reset()
		e.answered = now
	}
}

// mostTokens is what the canary's answer may cost where tokens are counted. The lock is held.
func (l *lane) mostTokens(asked *answer.Asked) int64 {
	if l.exposure.reserve == 0 || l.canary == nil || asked == nil {
		return 0
	}
	return l.canary.answer.MostTokens(asked, l.exposure.reserve)
}

// account tells the exposure what one side's answer cost in tokens. What a canary's answer cost and nobody knows is all
// that was reserved for it.
func (l *lane) account(d decision, side string, usage lifecycle.Usage) {
	if d.exposure == nil {
		return
	}
	tokens, choice := int64(usage.Completion), d.choice
	if side == sideStable {
		choice.Side = rollout.Stable
	} else if tokens == 0 {
		tokens = choice.Reserved
	}
	d.exposure.splitter.Settle(choice, tokens)
	credit, reserved, counted := d.exposure.splitter.Tokens()
	if !counted {
		return
	}
	l.g.exposed.tokens.WithLabelValues(l.name, side).Add(float64(tokens))
	l.g.exposed.tokenCredit.WithLabelValues(l.name).Set(credit)
	l.g.exposed.reserved.WithLabelValues(l.name).Set(float64(reserved))
}
