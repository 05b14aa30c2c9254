package rollout

// budget is the token side of the exposure rule within a Splitter, in 1/10,000 of a token:
//
//	start, restart, step down, lapse   credit is 0; what is owed stays owed
//	a request has ended with n tokens  credit grows by the share times n, to the cap at most
//	a canary request comes             its limit is reserved: taken from the credit; without that much it goes to stable
//	a canary request has ended         what it reserved and did not use comes back, unless the credit was dropped since
//
// So the tokens of the canary's ended requests and what is reserved for those in flight are at every moment at most
// Σp·tokens over all ended requests; that a server gives more than the limit is owed, and paid before anything else.
type budget struct {
	cap      int64 // 0: tokens are not counted
	credit   int64
	reserved int64 // tokens, for requests in flight
	era      int64 // grows whenever the credit is dropped
}

// affords says whether a canary request with this limit may be admitted.
func (b *budget) affords(tokens int64) bool {
	return b.cap == 0 || tokens >= 0 && tokens <= b.cap/unit && b.credit >= tokens*unit
}

// reserve takes the limit of an admitted request.
func (b *budget) reserve(tokens int64) {
	if b.cap > 0 {
		b.credit -= tokens * unit
		b.reserved += tokens
	}
}

// mostTokens bounds what one answer is said to have had, so that no number overflows.
const mostTokens = 1_000_000_000

func (b *budget) drop() {
	b.credit = min(b.credit, 0)
	b.era++
}

// Settle says that a request which was admitted as c has ended, and how many tokens it was answered with. For a canary
// request whose tokens nobody knows that is what it reserved; for one on stable it is none. It is called once for each
// side that was asked: for a canary request that stable rescued, a second time with what stable gave it.
func (s *Splitter) Settle(c Choice, tokens int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.tokens
	if b.cap == 0 {
		return
	}
	tokens = min(max(0, tokens), mostTokens)
	if c.Side == Canary {
		b.reserved -= c.Reserved
		back := c.Reserved - tokens
		if back < 0 || c.era == b.era {
			b.credit += back * unit
		}
	}
	b.credit = min(b.cap, b.credit+int64(s.share)*tokens)
}

// Tokens gives the token credit, in tokens, and what is reserved for canary requests in flight; counted is false where
// tokens are not.
func (s *Splitter) Tokens() (credit float64, reserved int64, counted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(s.tokens.credit) / float64(unit), s.tokens.reserved, s.tokens.cap > 0
}
