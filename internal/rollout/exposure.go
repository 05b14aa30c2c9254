package rollout

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/refitml/refit/internal/lifecycle"
)

// unit is the credit that one canary request takes, in basis points of a request: credit is an integer, so the
// bound holds exactly and not up to rounding.
const unit = int64(lifecycle.Whole)

// Hash names a conversation: a keyed hash that a client can neither choose nor guess.
type Hash [16]byte

// Side is who answers.
type Side bool

const (
	Stable Side = false
	Canary Side = true
)

// Config sets up a Splitter. The zero value works where it says so.
type Config struct {
	Key       []byte  // of this rollout, at least 16 bytes, the same at all its gateways; needed
	Band      float64 // width of the coin's band at small shares, in shares; 1 or more; default 3
	Cap       float64 // credit at most, in requests (B); 1 to 1,000,000; default 60; one gateway uses 20 of it, or more where H asks for it
	Threshold float64 // credit from which new conversations toss (H), at one gateway; 1 to Cap; default 12
	Tokens    int64   // token credit at most; to 1,000,000,000; 0: tokens are not counted
	Remember  int     // conversations remembered at least; twice as many at most; default 131,072
	Pooled    bool    // credit comes from Deposit instead of from requests seen here
}

// Request is what the rule must know of a request.
type Request struct {
	Conversation Hash
	Running      bool  // it has turns already; a running conversation never tosses
	OnCanary     bool  // a signed token or the registry says that it was on the canary
	Left         bool  // a signed token says that it is on stable: elsewhere it was moved, if it was on the canary
	Tokens       int64 // that it may be answered with at most; read where tokens are counted
}

// Choice is the rule's answer for one request. It is final: credit was taken for it.
type Choice struct {
	Side       Side
	First      bool    // the first request of the conversation that this gateway remembers
	Coin       bool    // the conversation tossed, now or before; only these are compared
	Propensity float64 // chance of the canary that the toss had, in (0, 1); 0 without Coin
	Moved      bool    // this request moved the conversation from canary to stable, for good
	Reserved   int64   // tokens that a canary request has reserved; see Settle
	Short      bool    // it is on stable because the token credit did not afford it

	era int64
}

// Splitter is the exposure rule for one rollout at one gateway. It holds no clock, takes constant time for a
// request, and is safe for use by several goroutines; their order at its lock is the order of requests.
type Splitter struct {
	mu        sync.Mutex
	key       []byte
	band      float64
	cap       int64 // units of 1/10,000 request, like all credit here
	threshold int64
	pooled    bool
	share     lifecycle.BasisPoints
	credit    int64
	purse     purse // pooled only
	tokens    budget
	known     memory
}

// NewSplitter gives a splitter with share 0 and no credit, as after every restart.
func NewSplitter(c Config) (*Splitter, error) {
	setDefault(&c.Band, 3)
	setDefault(&c.Cap, 60)
	setDefault(&c.Threshold, 12)
	setDefault(&c.Remember, 1<<17)
	switch {
	case len(c.Key) < 16:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "the band's key has %d bytes; give 16 or more", len(c.Key))
	case !(c.Band >= 1 && c.Band <= 100):
		return nil, lifecycle.Errorf(lifecycle.Invalid, "exposure.band: %v; give 1 to 100", c.Band)
	case !(c.Cap >= 1 && c.Cap <= 1e6):
		return nil, lifecycle.Errorf(lifecycle.Invalid, "exposure.cap: %v; give 1 to 1000000", c.Cap)
	case !(c.Threshold >= 1 && c.Threshold <= c.Cap):
		return nil, lifecycle.Errorf(lifecycle.Invalid, "exposure.threshold: %v; give 1 to the cap of %v", c.Threshold, c.Cap)
	case c.Tokens < 0 || c.Tokens > mostTokens:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "exposure.tokens: %d; give 0 to 1000000000", c.Tokens)
	case c.Remember < 1:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%d conversations to remember; give 1 or more", c.Remember)
	}
	return &Splitter{
		key: append([]byte(nil), c.Key...), band: c.Band, pooled: c.Pooled,
		// Rounding down keeps the cap; rounding the threshold is harmless.
		cap: int64(c.Cap * float64(unit)), threshold: int64(c.Threshold * float64(unit)),
		known: memory{limit: c.Remember}, tokens: budget{cap: c.Tokens * unit},
	}, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// SetShare sets the share in force, 0 to 9,999 basis points; more is refused and sets it to 0, because nobody
// knows what was meant. A smaller share than before takes all credit away.
func (s *Splitter) SetShare(share lifecycle.BasisPoints) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if share < 0 || share >= lifecycle.Whole {
		s.share = 0
		s.dropCredit()
		return lifecycle.Errorf(lifecycle.Invalid, "share of %d basis points; give 0 to 9999", share)
	}
	if share < s.share {
		s.dropCredit()
	}
	s.share = share
	return nil
}

// Reset takes all credit away, as after a lapse of the lease. Share and memory stay.
func (s *Splitter) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropCredit()
}

// dropCredit also drops what was earned and not reported yet, and any answer that is under way.
func (s *Splitter) dropCredit() {
	s.credit, s.purse.earned, s.purse.outside, s.purse.gateways = 0, s.purse.sent, 0, 0
	s.purse.serial++
	s.tokens.drop()
}

// Bound gives B for so many gateways: over every window of requests the canary's are at most Σp and this many. The
// policy has its defaults.
func Bound(policy lifecycle.Exposure, gateways int) float64 {
	s := Splitter{cap: int64(policy.Cap * float64(unit)), threshold: int64(policy.Threshold * float64(unit))}
	return float64(s.limit(int64(max(1, gateways)))) / float64(unit)
}

// limit is the credit at most that n gateways may have together.
func (s *Splitter) limit(n int64) int64 {
	return min(s.cap, max(s.threshold*5/3, s.threshold+8*unit)+capPerGateway*(n-1))
}

// Share gives the share in force.
func (s *Splitter) Share() lifecycle.BasisPoints {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.share
}

// Credit gives the credit that is left here, in requests.
func (s *Splitter) Credit() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.credit) / float64(unit)
}

// MustLookUp says whether a running conversation may have been begun on the canary elsewhere: it is not remembered
// here and its hash lies in the band. Only then is it worth to ask the registry.
func (s *Splitter) MustLookUp(h Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.known.get(h)
	return !known && s.inBand(h)
}

// Admit decides one user request and takes its credit.
func (s *Splitter) Admit(r Request) Choice {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pooled {
		s.purse.earned += int64(s.share)
	} else {
		s.credit = min(s.limit(1), s.credit+int64(s.share))
	}
	begun, known := s.known.get(r.Conversation)
	c := Choice{First: !known}
	if !known {
		begun = s.begin(r, &c)
	}
	c.Side, c.Coin, c.Propensity = begun.side, begun.propensity > 0, begun.propensity
	if c.Side == Canary {
		s.take(r, &c)
		begun.side = c.Side
	}
	s.known.put(r.Conversation, begun)
	return c
}

// take takes what a canary request costs, or moves its conversation.
func (s *Splitter) take(r Request, c *Choice) {
	c.Short = !s.tokens.affords(r.Tokens)
	if r.Left || c.Short || s.share == 0 || s.credit < unit {
		c.Side, c.Moved = Stable, true
		return
	}
	s.credit -= unit
	s.purse.spent = true
	s.tokens.reserve(r.Tokens)
	c.Reserved, c.era = r.Tokens, s.tokens.era
}

// begin decides the side of a conversation that is not remembered here.
func (s *Splitter) begin(r Request, c *Choice) begun {
	switch {
	case r.OnCanary:
		return begun{side: Canary}
	case r.Running || !s.tosses():
		return begun{}
	case !s.tokens.affords(r.Tokens): // what it may cost is no matter of its hash, so who tosses has its propensity
		c.Short = true
		return begun{}
	default:
		return begun{side: Side(s.inBand(r.Conversation)), propensity: s.width()}
	}
}

// tosses says whether a new conversation tosses now. With a pool there must be a unit here, because nobody waits for
// one; whether there is was decided by earlier requests.
func (s *Splitter) tosses() bool {
	if s.share == 0 || s.credit < unit {
		return false
	}
	if !s.pooled {
		return s.credit >= s.threshold
	}
	from := max(s.threshold, min(s.threshold+perGateway*(s.purse.gateways-1), s.cap*4/5))
	return s.purse.gateways > 0 && s.credit+s.purse.outside >= from
}

func (s *Splitter) width() float64 { return bandWidth(s.share, s.band) }

// bandWidth is the share's odds times band, as a probability. For small shares that is nearly band times the share, it
// never passes 1, and its ratio to the share falls to 1 as the share grows.
func bandWidth(share lifecycle.BasisPoints, band float64) float64 {
	p := share.Fraction()
	return p / (p + (1-p)/band)
}

// inBand compares 53 bits of the keyed hash with the width. Bands are nested: who lies in a narrow one lies in
// every wider one of the same rollout.
func (s *Splitter) inBand(h Hash) bool {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(h[:])
	var sum [sha256.Size]byte
	at := float64(binary.BigEndian.Uint64(mac.Sum(sum[:0]))>>11) / (1 << 53)
	return at < s.width()
}
