package gateway

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"strings"
)

// An interaction's ID says to whom it was given: "int-", a random text, and a tag that is keyed with service and
// owner. So any gateway with the key knows at once, without the registry and before the interaction is stored, whether
// feedback is its owner's. IDs of former releases have no tag.
const (
	idPrefix = "int-"
	idRandom = 26 // characters of rand.Text
	idTag    = 8  // bytes
)

var idEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

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
	random := strings.ToLower(rand.Text())
	return idPrefix + random + "-" + s.ownerTag(service, owner, random)
}

func (s signer) ownerTag(service, owner, random string) string {
	sum := s.mac("interaction", service, owner, random)
	return strings.ToLower(idEncoding.EncodeToString(sum[:idTag]))
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
