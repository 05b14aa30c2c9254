package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"hash"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/minio/highwayhash"
)

// Headers that the gateway owns. From clients only the conversation's token is read, and believed only when
// its signature holds; from model servers none is.
const (
	headerConversation = "X-Refit-Conversation"
	headerRelease      = "X-Refit-Release"
	headerInteraction  = "X-Refit-Interaction"
	headerHash         = "X-Refit-Conversation-Hash"
	headerRequest      = "X-Request-Id"
	ownPrefix          = "X-Refit-"
)

const (
	hashSize = 16 // bytes of a conversation's hash
	tagSize  = 8  // bytes that name a rollout within a token
	macSize  = 16 // bytes of a token's signature
)

// tokenVersion is the first byte of a token's form.
const tokenVersion = 1

// conversationHash tells conversations apart without holding a word of them.
type conversationHash [hashSize]byte

// String gives 32 hexadecimal digits, as the hash stands in the registry, in captures and upstream.
func (h conversationHash) String() string { return hex.EncodeToString(h[:]) }

// token is what a client hands back to go on with its conversation. It is signed, so a client can neither
// make one up nor choose its side; it says nothing that a reader could use.
type token struct {
	hash conversationHash
	tag  [tagSize]byte // of the rollout on whose canary the conversation is; zero: on stable
}

// signer makes and reads everything keyed: one key for all gateways of an installation.
type signer struct {
	macs   *sync.Pool // of keyed, each with the key worked in
	text   [32]byte   // key for texts of any length
	random *randomness
}

// keyed is an HMAC with a place to put its message together.
type keyed struct {
	hash.Hash
	message []byte
	sum     [sha256.Size]byte
}

func newSigner(key []byte) signer {
	s := signer{random: &randomness{}, macs: &sync.Pool{New: func() any { return &keyed{Hash: hmac.New(sha256.New, key)} }}}
	s.text = s.mac("text")
	return s
}

func (s signer) mac(parts ...string) (sum [sha256.Size]byte) {
	mac := s.macs.Get().(*keyed)
	defer s.macs.Put(mac)
	mac.Reset()
	mac.message = mac.message[:0]
	for _, part := range parts { // lengths keep ("ab", "c") and ("a", "bc") apart
		mac.message = append(binary.BigEndian.AppendUint32(mac.message, uint32(len(part))), part...)
	}
	mac.Write(mac.message)
	mac.Sum(mac.sum[:0])
	return mac.sum
}

// named is a MAC's beginning in hexadecimal digits.
func (s signer) named(parts ...string) string {
	sum := s.mac(parts...)
	return hex.EncodeToString(sum[:hashSize])
}

// tag names a rollout within a token.
func (s signer) tag(rollout string) (tag [tagSize]byte) {
	sum := s.mac("rollout", rollout)
	copy(tag[:], sum[:])
	return tag
}

func (s signer) seal(service string, t token) string {
	var room [1 + hashSize + tagSize + macSize]byte
	raw := append(append(append(room[:0], tokenVersion), t.hash[:]...), t.tag[:]...)
	sum := s.mac("token", service, string(raw))
	raw = append(raw, sum[:macSize]...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// open reads a token of the service; anything else, forged or of another service, is no token.
func (s signer) open(service, text string) (token, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != 1+hashSize+tagSize+macSize || raw[0] != tokenVersion {
		return token{}, false
	}
	body, mac := raw[:1+hashSize+tagSize], raw[1+hashSize+tagSize:]
	if sum := s.mac("token", service, string(body)); !hmac.Equal(mac, sum[:macSize]) {
		return token{}, false
	}
	var t token
	copy(t.hash[:], body[1:])
	copy(t.tag[:], body[1+hashSize:])
	return t, true
}

// client names who asks: the API key's ID where there is one and no proxy names the client behind it, else a
// keyed hash of the credential, or of the address. trusted is a header that a proxy in front of the gateway
// sets; empty trusts none.
func (s signer) client(r *http.Request, trusted, key string) string {
	name := r.RemoteAddr
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		name = host
	}
	if trusted != "" {
		if value := strings.TrimSpace(r.Header.Get(trusted)); value != "" {
			name = value
			if key != "" {
				return s.named("client", key, value)
			}
		}
	}
	if key != "" {
		return key
	}
	if credential := r.Header.Get("Authorization"); credential != "" {
		name = "credential\x00" + credential
	}
	return s.named("client", name)
}

// maxName bounds a conversation's name in a header; a longer one is none.
const maxName = 256

// named gives the name that the client gave its conversation; "" where it gave none. A JWT's signature is not checked:
// whoever may send the header may choose the name, with a claim as without, and a name is hashed together with its client.
func (c Config) named(header http.Header) string {
	if c.ConversationHeader == "" {
		return ""
	}
	value := header.Get(c.ConversationHeader)
	if c.ConversationClaim != "" {
		value = claim(value, c.ConversationClaim)
	}
	if len(value) > maxName {
		return ""
	}
	return value
}

// maxJWT bounds a JWT that is read, in bytes.
const maxJWT = 16 << 10

// claim gives a claim of a JWT (RFC 7519) in its compact form, with or without Bearer before it, that is a string or
// a number; "" where there is none.
func claim(jwt, name string) string {
	jwt = strings.TrimPrefix(jwt, "Bearer ")
	_, rest, _ := strings.Cut(jwt, ".")
	payload, _, signed := strings.Cut(rest, ".")
	if !signed || len(jwt) > maxJWT {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var claims map[string]json.RawMessage
	if json.Unmarshal(raw, &claims) != nil {
		return ""
	}
	var text string
	if json.Unmarshal(claims[name], &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(claims[name], &number) != nil {
		return ""
	}
	return number.String()
}

// identify says which conversation a request belongs to: that of its token, else client and name, where the client gave
// one, else client and first user text. The text may be long, so HighwayHash reads it: keyed as HMAC is, the same after
// a restart, and ten times as fast.
// Two conversations of one client that begin with the same words are one conversation to the gateway as long as
// the client hands no token back.
func (s signer) identify(service, client string, first []byte, header http.Header, name string) (token, bool) {
	if t, ok := s.open(service, header.Get(headerConversation)); ok {
		return t, true
	}
	var t token
	begins := "conversation"
	if name != "" {
		begins, first = "named conversation", []byte(name)
	}
	text := highwayhash.Sum128(first, s.text[:])
	sum := s.mac(begins, service, client, string(text[:]))
	copy(t.hash[:], sum[:])
	return t, false
}

// requestID gives what goes upstream as x-request-id: the client's own where it is short and plain, else the
// interaction's. The prefix "refit-" is the house's own, so no client can pass for a warm-up.
func requestID(header http.Header, interaction string) string {
	id := header.Get(headerRequest)
	if id == "" || len(id) > 128 || strings.HasPrefix(strings.ToLower(id), "refit-") {
		return interaction
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c > '~' {
			return interaction
		}
	}
	return id
}
