package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"sync"
)

// An interaction's ID says to whom it was given: "int-", a random text, and a tag that is keyed with service and
// owner. So any gateway with the key knows at once, without the registry and before the interaction is stored, whether
// feedback is its owner's. IDs of former releases have no tag.
const (
	idPrefix = "int-"
	idRandom = 26 // characters of rand.Text
	idTag    = 8  // bytes
)

// idEncoding writes small letters, as rand.Text does but for their size.
var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

// owner is a keyed hash of the API key by which a client is known; "" where it gave none: then nobody can tell who it
// is, and its interactions are anybody's who knows their IDs.
func (s signer) owner(key string) string {
	if key == "" {
		return ""
	}
	sum := s.mac("owner", key)
	return hex.EncodeToString(sum[:hashSize])
}

// newInteraction gives an ID to an interaction of the owner.
func (s signer) newInteraction(service, owner string) string {
	var id [len(idPrefix) + idRandom + 1 + (8*idTag+4)/5]byte
	out := append(append(id[:0], idPrefix...), make([]byte, idRandom)...)
	s.random.fill(out[len(idPrefix):])
	for i, c := range out[len(idPrefix):] {
		out[len(idPrefix)+i] = idAlphabet[c%byte(len(idAlphabet))]
	}
	tag := s.mac("interaction", service, owner, string(out[len(idPrefix):]))
	return string(idEncoding.AppendEncode(append(out, '-'), tag[:idTag]))
}

// ownerTag gives the end of an ID.
func (s signer) ownerTag(service, owner, random string) string {
	sum := s.mac("interaction", service, owner, random)
	return idEncoding.EncodeToString(sum[:idTag])
}

// randomness asks the system for many random bytes at a time.
type randomness struct {
	mu    sync.Mutex
	bytes [64 * idRandom]byte
	left  int
}

func (r *randomness) fill(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left < len(b) {
		_, _ = rand.Read(r.bytes[:]) // never fails
		r.left = len(r.bytes)
	}
	from := r.bytes[r.left-len(b) : r.left]
	copy(b, from)
	clear(from) // what was given is nobody else's to see
	r.left -= len(b)
}

// mayJudge says whether a client may give feedback on an interaction of the service: it is the client's own, or
// nobody's. Of an ID of a former release the registry decides when both are stored.
func (s signer) mayJudge(service, owner, id string) bool {
	random, tag, tagged := strings.Cut(strings.TrimPrefix(id, idPrefix), "-")
	if !strings.HasPrefix(id, idPrefix) || len(random) != idRandom {
		return false
	}
	if !tagged {
		return true
	}
	for _, o := range []string{owner, ""} {
		if hmac.Equal([]byte(tag), []byte(s.ownerTag(service, o, random))) {
			return true
		}
	}
	return false
}
