package gateway

import (
	"encoding/binary"
	"math"
	"regexp"
	"strings"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// keeping is what of a service's texts may be kept. Nil keeps none. What is counted and judged (outcomes, latencies,
// usage, guardrail hits) is no text and always kept.
type keeping struct {
	sample float64 // share of conversations whose texts are kept
	masker *lifecycle.Masker
}

// newKeeping gives nil where the service keeps no text, and with an error too: a declaration that cannot be meant
// keeps none.
func newKeeping(p lifecycle.CapturePolicy) (*keeping, error) {
	if p.Content != "full" {
		return nil, nil
	}
	masker, err := lifecycle.NewMasker(p.Redact.Kinds, p.Redact.Patterns)
	if err != nil {
		return nil, lifecycle.Wrap(err, "capture.redact")
	}
	k := &keeping{sample: 1, masker: masker}
	if p.Sample != nil {
		k.sample = *p.Sample
	}
	return k, nil
}

// declare takes a service's newest declaration. The lock is held.
func (l *lane) declare(service lifecycle.Service) {
	l.service = service
	var err error
	if l.keeps, err = newKeeping(service.Capture); err != nil {
		l.log.Error("no prompt or answer is captured", "error", err)
	}
}

// texts gives the declaration's word on texts.
func (l *lane) texts() *keeping {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keeps
}

// sampled says whether a conversation's texts are kept: always the same, at every gateway with the key, and
// independently of the conversation's side.
func (k *keeping) sampled(s signer, service, conversation string) bool {
	if k.sample >= 1 {
		return true
	}
	sum := s.mac("sample", service, conversation)
	return float64(binary.BigEndian.Uint64(sum[:8]))/math.MaxUint64 < k.sample
}

// of says what becomes of a conversation's texts.
func (k *keeping) of(s signer, service, conversation string) lifecycle.Content {
	switch {
	case k == nil:
		return lifecycle.ContentNone
	case !k.sampled(s, service, conversation):
		return lifecycle.ContentSampled
	}
	return lifecycle.ContentFull
}

// fill puts into an interaction what is kept of its texts, which its Content says.
func (k *keeping) fill(i *lifecycle.Interaction, result *answer.Result, bound int) {
	if i.Content == lifecycle.ContentFull {
		i.Input, i.Output = k.mask(result.Input, bound), k.mask(result.Output, bound)
	}
}

// torn is how much of the end of a text that was cut is left out where texts are masked: what is masked may begin
// there and not be known for what it is.
const torn = 256

func (k *keeping) mask(text string, bound int) string {
	if k.masker == nil {
		return text
	}
	if len(text) > bound-4 && len(text) > torn { // cut between two characters
		text = text[:len(text)-torn]
		if space := strings.LastIndexAny(text, " \t\n"); space > 0 {
			text = text[:space]
		}
	}
	return k.masker.Mask(text)
}

// code is a reason that is a word of a list and no sentence.
var code = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)

// feedback leaves of what a user said what may be kept: without texts a correction is none, and a reason is one
// only as a code.
func (k *keeping) feedback(f *lifecycle.Feedback) {
	if k == nil {
		f.Correction = ""
		if !code.MatchString(f.Reason) {
			f.Reason = ""
		}
		return
	}
	f.Reason, f.Correction = k.masker.Mask(f.Reason), k.masker.Mask(f.Correction)
}
