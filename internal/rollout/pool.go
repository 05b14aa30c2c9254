package rollout

import "github.com/refitml/refit/internal/lifecycle"

// Pool is the credit that the gateways of a rollout share: one row that the store locks while it runs Draw. All
// numbers are integers, so that a database can do the same arithmetic (credit in basis points of a request, units in
// requests, n the gateways that are heard of, others the units that the other gateways hold):
//
//	refuse      if draw.epoch <> pool.epoch: grant nothing, answer with pool.epoch
//	keep        = least(drawn[g], held)
//	back        = least(greatest(0, draw.given - given[g]), drawn[g] - keep)
//	limit       = least(draw.cap, draw.base + 25000·(n - 1))
//	level       = least(level + 10000·back + greatest(0, draw.earned - earned[g]), limit - 10000·(others + keep))
//	fair        = greatest(1, (level + 10000·(others + keep)) / n / 10000)
//	units       = least(draw.want, level / 10000, fair - keep), 0 at least
//	level       = level - 10000·units;  drawn[g] = keep + units
//	earned[g]   = greatest(earned[g], draw.earned);  given[g] = greatest(given[g], draw.given)
//
// What was granted in all is at most what was earned in all (Σp over what was reported), and level and drawn
// units together never pass the limit, which never passes the cap.
type Pool struct {
	Epoch    int64 // grows with every Void
	Level    int64 // earned and not drawn, in basis points of a request
	Gateways map[string]Holding
}

// Holding is what the pool knows of a gateway, by its ID; a restarted gateway has a new one.
type Holding struct {
	Drawn  int64 // units that it has at most
	Earned int64 // that it reported in this epoch, in basis points of a request
	Given  int64 // units that it handed back in this epoch
	Silent bool  // it was not heard of for long: see Lose
}

// Draw is what a gateway tells the pool and asks of it. Totals instead of differences make repeating one harmless;
// units of a grant that never arrived are lost at the gateway's next draw.
type Draw struct {
	Gateway string
	Epoch   int64 // that the gateway knows; another than the pool's grants nothing
	Earned  int64 // Σp over this gateway's requests in the epoch, in basis points of a request
	Given   int64 // units that it handed back in the epoch
	Held    int64 // units that it still has
	Want    int64 // units that it asks for; 0 only reports
	Cap     int64 // B, in basis points of a request
	Base    int64 // of it, what one gateway alone may use

	serial int64
}

// Grant is the pool's answer.
type Grant struct {
	Epoch    int64
	Units    int64 // granted now
	Keep     int64 // of the units held, how many hold; the rest is void
	Total    int64 // credit of all gateways and the pool after it, in basis points of a request
	Gateways int64 // that share it, this one included
}

// Each gateway after the first adds to threshold and cap, because a unit must lie ready at each: no request waits
// for the pool.
const (
	perGateway    = unit * 3 / 2 // on the threshold
	capPerGateway = perGateway * 5 / 3
)

// Draw takes a report and grants units.
func (p *Pool) Draw(d Draw) Grant {
	if d.Epoch != p.Epoch || min(d.Held, d.Want, d.Earned, d.Given, d.Cap, d.Base) < 0 {
		return Grant{Epoch: p.Epoch}
	}
	mine := p.Gateways[d.Gateway]
	others, n := p.others(d.Gateway)
	keep := min(mine.Drawn, d.Held)
	back := min(max(0, d.Given-mine.Given), mine.Drawn-keep)
	limit := min(d.Cap, d.Base+capPerGateway*(n-1))
	drawn := (others + keep) * unit
	level := min(p.Level+back*unit+max(0, d.Earned-mine.Earned), max(0, limit-drawn))
	fair := max(1, (level+drawn)/n/unit)
	units := max(0, min(d.Want, level/unit, fair-keep))
	p.Level = level - units*unit
	if p.Gateways == nil {
		p.Gateways = map[string]Holding{}
	}
	p.Gateways[d.Gateway] = Holding{
		Drawn: keep + units, Earned: max(mine.Earned, d.Earned), Given: max(mine.Given, d.Given),
	}
	return Grant{Epoch: p.Epoch, Units: units, Keep: keep, Total: level + drawn, Gateways: n}
}

// others gives the units that other gateways hold, and how many gateways there are, this one included.
func (p *Pool) others(gateway string) (units, gateways int64) {
	gateways = 1
	for name, h := range p.Gateways {
		if name == gateway {
			continue
		}
		units += h.Drawn
		if !h.Silent {
			gateways++
		}
	}
	return units, gateways
}

// Lose forgets the units of a gateway that was silent for much longer than lifecycle.LeaseTime: they are lost, not
// given back, and make room under the cap. If it comes back, its next answer voids what it still has; what it
// reported before is not counted again.
func (p *Pool) Lose(gateway string) {
	if h, ok := p.Gateways[gateway]; ok {
		h.Drawn, h.Silent = 0, true
		p.Gateways[gateway] = h
	}
}

// Void takes all credit away: at a step down, a lapse, the end. Whoever holds units learns it by the epoch.
func (p *Pool) Void() {
	p.Epoch++
	p.Level, p.Gateways = 0, nil
}

// purse is the gateway's side of a pool, within its Splitter.
type purse struct {
	epoch    int64
	earned   int64 // in this epoch
	sent     int64 // of it, in the last draw
	given    int64 // units handed back in this epoch
	outside  int64 // credit of others and the pool when it last answered
	gateways int64 // that share the pool; 0: it never answered
	spent    bool  // a unit was taken since the last draw
	serial   int64 // of the last draw
}

// Due says how much a draw is needed: urgent as soon as a unit was taken or a whole one was earned, worth it when
// anything was earned. It is never so without a pool.
func (s *Splitter) Due() (worth, urgent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pooled || s.share == 0 {
		return false, false
	}
	unsent := s.purse.earned - s.purse.sent
	return unsent > 0, s.purse.spent || unsent >= unit
}

// fair is this gateway's part of all credit when the pool last answered, in units.
func (s *Splitter) fair() int64 {
	return max(1, (s.credit+s.purse.outside)/unit/max(1, s.purse.gateways))
}

// Draw says what to tell the pool, and hands back what is more than this gateway's part. Only the answer to the
// last draw counts, so an answer that comes late is harmless.
func (s *Splitter) Draw(gateway string) Draw {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.purse.gateways > 0 {
		give := max(0, s.credit/unit-s.fair())
		s.credit -= give * unit
		s.purse.given += give
		s.purse.outside += give * unit
	}
	s.purse.serial++
	s.purse.sent, s.purse.spent = s.purse.earned, false
	return Draw{
		Gateway: gateway, Epoch: s.purse.epoch, Earned: s.purse.earned, Given: s.purse.given, Held: s.credit / unit,
		Want: s.cap / unit, Cap: s.cap, Base: s.limit(1), serial: s.purse.serial,
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
		s.dropCredit()
		s.purse.epoch, s.purse.earned, s.purse.sent, s.purse.given = g.Epoch, 0, 0, 0
		return nil
	}
	// What was taken since d was made came from the units held then, the void ones first.
	s.credit = max(0, s.credit-(d.Held-g.Keep)*unit) + g.Units*unit
	s.purse.outside = max(0, g.Total-(g.Keep+g.Units)*unit)
	s.purse.gateways = max(1, g.Gateways)
	return nil
}

// Unanswered says that d got no answer: until the next one no conversation tosses here.
func (s *Splitter) Unanswered(d Draw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.serial == s.purse.serial {
		s.purse.serial++
		s.purse.outside, s.purse.gateways = 0, 0
	}
}
