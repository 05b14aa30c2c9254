package corpus

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"hash/fnv"

	"github.com/refitml/refit/internal/lifecycle"
)

// Document is one text of a corpus and one line of a dataset. ID is unique in a dataset and stable over
// rebuilds; Source groups documents that belong together (a package, a file) and may be empty, as may Title.
type Document struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	Title  string `json:"title"`
	Text   string `json:"text"`
}

// digester sums documents up in order; the split is part of what they are.
type digester struct{ sum hash.Hash }

func newDigester() digester { return digester{sha256.New()} }

func (d digester) add(split string, doc Document) {
	line, err := json.Marshal(struct {
		Split string `json:"split"`
		Document
	}{split, doc})
	if err != nil {
		panic("encode a document of strings: " + err.Error()) // four strings always encode
	}
	_, _ = d.sum.Write(append(line, '\n')) // a hash never fails
}

func (d digester) digest() lifecycle.Digest {
	return lifecycle.Digest(hex.EncodeToString(d.sum.Sum(nil)))
}

// mix spreads FNV-1a over all bits (finaliser of MurmurHash3, Appleby). It protects nothing.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

func hashText(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p))
		_, _ = h.Write([]byte{0})
	}
	return mix(h.Sum64())
}
