package lifecycle

import (
	"crypto/sha256"
	"strings"
	"time"
)

// APIKey is a client's right to ask services of the data plane. Of what the client holds only Hash is kept: the
// secret is 260 random bits, which nobody can try through, so one round of SHA-256 hides it as well as a slow hash
// would, and a request pays a microsecond for it.
type APIKey struct {
	ID                string    `json:"id"` // the secret's visible beginning
	Name              string    `json:"name"`
	Services          []string  `json:"services"`                      // that it may ask, sorted
	RequestsPerMinute int64     `json:"requests_per_minute,omitempty"` // at each gateway; 0: no limit
	TokensPerMinute   int64     `json:"tokens_per_minute,omitempty"`   // at each gateway; 0: no limit
	CreatedBy         Actor     `json:"created_by"`
	CreatedAt         time.Time `json:"created_at"`
	ExpiresAt         time.Time `json:"expires_at,omitzero"` // zero: never
	RevokedAt         time.Time `json:"revoked_at,omitzero"` // zero: it was not
	RevokedBy         *Actor    `json:"revoked_by,omitempty"`
	Hash              []byte    `json:"hash,omitempty"` // SHA-256 of the secret; left out where people see keys
}

// The form of a secret: "rfk_", 12 letters that are the ID's, "_" and 52 secret ones, of a to z and 2 to 7.
const (
	APIKeyPrefix    = "rfk_"
	apiKeyIDSize    = len(APIKeyPrefix) + 12
	apiKeySize      = apiKeyIDSize + 1 + 52
	apiKeySeparator = '_'
)

// NewAPIKey puts a secret together of 64 random letters, and gives it with its ID. Fewer or other letters are
// Invalid.
func NewAPIKey(letters string) (secret, id string, err error) {
	letters = strings.ToLower(letters)
	if len(letters) == apiKeySize-len(APIKeyPrefix)-1 {
		secret = APIKeyPrefix + letters[:12] + string(apiKeySeparator) + letters[12:]
	}
	id, _, ok := ReadAPIKey(secret)
	if !ok {
		return "", "", Errorf(Invalid, "an API key is made of 64 letters of a to z and 2 to 7")
	}
	return secret, id, nil
}

// ReadAPIKey gives the ID and the hash of a secret. ok is false where it has not the form of one.
func ReadAPIKey(secret string) (id string, hash [sha256.Size]byte, ok bool) {
	if len(secret) != apiKeySize || !strings.HasPrefix(secret, APIKeyPrefix) || secret[apiKeyIDSize] != apiKeySeparator {
		return "", hash, false
	}
	var bytes [apiKeySize]byte
	for i := range bytes {
		c := secret[i]
		if i >= len(APIKeyPrefix) && i != apiKeyIDSize && (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", hash, false
		}
		bytes[i] = c
	}
	return secret[:apiKeyIDSize], sha256.Sum256(bytes[:]), true
}

// MaxKeyServices bounds how many services one key may ask.
const MaxKeyServices = 64

// Check gives all faults of a key that is to be made. now is the time that it must outlive.
func (k APIKey) Check(now time.Time) error {
	var faults Problems
	if !validName(k.Name) {
		faults.Add("name", quote(k.Name), "%s", nameRemedy)
	}
	if len(k.Services) == 0 || len(k.Services) > MaxKeyServices {
		faults.Add("services", itoa(len(k.Services)), "give 1 to %d services", MaxKeyServices)
	}
	for _, s := range k.Services {
		if !validName(s) {
			faults.Add("services", quote(s), "%s", nameRemedy)
		}
	}
	if k.RequestsPerMinute < 0 || k.TokensPerMinute < 0 {
		faults.Add("limits", "negative", "give a number a minute, or 0 for no limit")
	}
	if !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now) {
		faults.Add("expires_at", "in the past", "give a time to come, or leave it out")
	}
	return faults.Err("API key")
}
