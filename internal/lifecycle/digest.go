package lifecycle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// Digest is a SHA-256 in 64 lower-case hexadecimal digits. Empty means none.
type Digest string

// DigestOf gives the digest of bytes.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(hex.EncodeToString(sum[:]))
}

// Valid says whether d is a whole digest.
func (d Digest) Valid() bool {
	if len(d) != 64 {
		return false
	}
	for _, c := range []byte(d) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Short gives the first 12 digits, for people and for served names.
func (d Digest) Short() string {
	if len(d) < 12 {
		return string(d)
	}
	return string(d[:12])
}

// canonical gives the one JSON form of v that digests are made of: object keys sorted, no insignificant
// white space, no HTML escapes, absent optional fields left out. v must be a value that encoding/json can
// encode; lifecycle's own types always are, so a failure is a programming error and panics.
func canonical(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic("canonical form: " + err.Error())
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var generic any
	if err := decoder.Decode(&generic); err != nil {
		panic("canonical form: " + err.Error())
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(generic); err != nil {
		panic("canonical form: " + err.Error())
	}
	return bytes.TrimRight(out.Bytes(), "\n")
}
