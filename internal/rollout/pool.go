package rollout

import "github.com/refitml/refit/internal/lifecycle"

// Pool is the credit that several gateways share for one rollout: one row that the store locks while it runs Draw.
// All numbers are integers, so that a database can do the same arithmetic:
//
//	refuse      if draw.epoch <> pool.epoch: grant nothing, answer with pool.epoch
//	drawn[g]    = least(drawn[g], draw.held)
//	level       = least(level + greatest(0, draw.earned - earned[g]), cap - 10000·Σ drawn)
//	earned[g]   = greatest(earned[g], draw.earned)
//	units       = least(draw.want, level / 10000), rounded down
//	level       = level - 10000·units;  drawn[g] = drawn[g] + units
//
// What was granted in all is at most what was earned in all (Σp over what was reported), and level and drawn
// units together never pass the cap.
type Pool struct {
	Cap    int64            // B in basis points of a request: 200,000 is 20 requests
	Epoch  int64            // grows with every Void
	Level  int64            // earned and not drawn, in basis points of a request
	Drawn  map[string]int64 // units that a gateway holds at most, by its ID; a restarted gateway has a new ID
	Earned map[string]int64 // that a gateway reported in this epoch, in basis points of a request
}

// Draw is what a gateway tells the pool and asks of it. Totals instead of differences make repeating one harmless;
// units of a grant that never arrived are lost at the gateway's next draw.
type Draw struct {
	Gateway string
	Epoch   int64 // that the gateway knows; another than the pool's grants nothing
	Earned  int64 // Σp over this gateway's requests in the epoch, in basis points of a request
	Held    int64 // units that it still has
	Want    int64 // units that it asks for; 0 only reports

	serial int64
}

// Grant is the pool's answer.
type Grant struct {
	Epoch int64
	Units int64 // granted now
	Keep  int64 // of the units held, how many hold; the rest is void
	Total int64 // credit of all gateways and the pool after it, in basis points of a request
}

// Draw takes a report and grants units.
func (p *Pool) Draw(d Draw) Grant {
	if d.Epoch != p.Epoch || d.Held < 0 || d.Want < 0 || d.Earned < 0 {
		return Grant{Epoch: p.Epoch}
	}
	if p.Drawn == nil {
		p.Drawn, p.Earned = map[string]int64{}, map[string]int64{}
	}
	keep := min(p.Drawn[d.Gateway], d.Held)
	p.Drawn[d.Gateway] = keep
	drawn := p.drawn()
	p.Level = min(p.Level+max(0, d.Earned-p.Earned[d.Gateway]), p.Cap-drawn*unit)
	p.Earned[d.Gateway] = max(p.Earned[d.Gateway], d.Earned)
	units := min(d.Want, p.Level/unit)
	p.Level -= units * unit
	p.Drawn[d.Gateway] = keep + units
	return Grant{Epoch: p.Epoch, Units: units, Keep: keep, Total: p.Level + (drawn+units)*unit}
}

func (p *Pool) drawn() (sum int64) {
	for _, units := range p.Drawn {
		sum += units
	}
	return sum
}

// Lose forgets the units of a gateway that was silent for longer than lifecycle.LeaseTime: they are lost, not given
// back, and make room under the cap. If it comes back, its next answer voids them there.
func (p *Pool) Lose(gateway string) { delete(p.Drawn, gateway) }

// Void takes all credit away: at a step down, a lapse, the end. Whoever holds units learns it by the epoch.
func (p *Pool) Void() {
	p.Epoch++
	p.Level, p.Drawn, p.Earned = 0, nil, nil
}

// purse is the gateway's side of a pool, within its Splitter.
type purse struct {
	epoch   int64
	earned  int64 // in this epoch
	sent    int64 // of it, in the last draw
	outside int64 // credit of others and the pool when it last answered
	serial  int64 // of the last draw
}

// Needs says whether r would go to the canary if there were a unit: then it is worth to Draw one before Admit. It is
// never so without a pool.
func (s *Splitter) Needs(r Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pooled || s.share == 0 || s.credit >= unit {
		return false
	}
	begun, known := s.known.get(r.Conversation)
	switch {
	case known:
		return begun.side == Canary
	case r.OnCanary:
		return true
	default:
		return !r.Running && s.tosses() && s.inBand(r.Conversation)
	}
}

// Draw says what to tell the pool. Only the answer to the last draw counts, so an answer that comes late is harmless.
func (s *Splitter) Draw(gateway string, want int64) Draw {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purse.serial++
	s.purse.sent = s.purse.earned
	return Draw{
		Gateway: gateway, Epoch: s.purse.epoch, Earned: s.purse.earned, Held: s.credit / unit, Want: want,
		serial: s.purse.serial,
	}
}

// Deposit takes the pool's answer to d.
func (s *Splitter) Deposit(d Draw, g Grant) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pooled {
		return lifecycle.Errorf(lifecycle.Internal, "a grant for a gateway that earns its own credit")
	}
	if d.serial != s.purse.serial {
		return nil
	}
	s.purse.serial++ // an answer counts once
	if g.Epoch != d.Epoch {
		s.purse.sent = 0
		s.dropCredit()
		s.purse.epoch = g.Epoch
		return nil
	}
	s.credit = min(s.credit, g.Keep*unit) + g.Units*unit
	s.purse.outside = max(0, g.Total-s.credit)
	return nil
}

// Unanswered says that d got no answer: until the next one no conversation tosses here.
func (s *Splitter) Unanswered(d Draw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.serial == s.purse.serial {
		s.purse.serial++
		s.purse.outside = 0
	}
}
