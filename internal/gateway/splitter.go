package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/refitml/refit/internal/lifecycle"
)

type splitter struct {
	key                  []byte
	p, credit            float64
	band, cap, threshold float64
	known                map[conversationHash]verdict
}

func newSplitter(key []byte, e lifecycle.Exposure) *splitter {
	return &splitter{key: key, band: e.Band, cap: e.Cap, threshold: e.Threshold, known: map[conversationHash]verdict{}}
}

func (s *splitter) setShare(b lifecycle.BasisPoints) {
	p := b.Fraction()
	if p < s.p {
		s.credit = 0
	}
	s.p = p
}

func (s *splitter) width() float64 { return s.p / (s.p + (1-s.p)/s.band) }

func (s *splitter) inBand(h conversationHash) bool {
	mac := hmac.New(sha256.New, s.key)
	mac.Write(h[:])
	return s.p > 0 && float64(binary.BigEndian.Uint64(mac.Sum(nil)))/(1<<63)/2 < s.width()
}

func (s *splitter) admit(h conversationHash, fresh, elsewhere bool) verdict {
	s.credit = min(s.cap, s.credit+s.p)
	v, known := s.known[h]
	v.moved, v.first = false, !known
	switch {
	case !known && elsewhere:
		v.canary = true
	case !known && fresh && s.p > 0 && s.credit >= s.threshold:
		v.coin, v.propensity, v.canary = true, s.width(), s.inBand(h)
	}
	if v.canary {
		if s.credit >= 1 {
			s.credit--
		} else {
			v.canary, v.moved = false, true
		}
	}
	s.known[h] = v
	return v
}
