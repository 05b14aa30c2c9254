package lifecycle

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Types of what is signed.
const (
	ReleasePayload   = "application/vnd.refit.release+json" // a release's canonical form
	StatementPayload = "application/vnd.in-toto+json"       // of an artifact; see Manifest.Statement
)

// Envelope is a signed text: DSSE, protocol v1 (github.com/secure-systems-lab/dsse), with ed25519.
type Envelope struct {
	Payload     []byte      `json:"payload"`
	PayloadType string      `json:"payloadType"`
	Signatures  []Signature `json:"signatures"`
}

// Signature is one key's.
type Signature struct {
	KeyID string `json:"keyid,omitempty"` // a hint, see KeyID
	Sig   []byte `json:"sig"`
}

// pkix stands before an ed25519 key's 32 bytes in its PKIX form (RFC 8410, section 4).
const pkix = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"

// KeyID names a public key: SHA-256 of its PKIX form in hexadecimal digits.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(append([]byte(pkix), key...))
	return hex.EncodeToString(sum[:])
}

// KeyNames gives the first digits of the keys' names, each once.
func KeyNames(keys []ed25519.PublicKey) []string {
	var names []string
	for _, key := range keys {
		if name := KeyID(key)[:12]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Sign signs a text as being of a type.
func Sign(key ed25519.PrivateKey, payloadType string, payload []byte) Envelope {
	public, _ := key.Public().(ed25519.PublicKey)
	return Envelope{
		Payload: payload, PayloadType: payloadType,
		Signatures: []Signature{{KeyID: KeyID(public), Sig: ed25519.Sign(key, preAuthentication(payloadType, payload))}},
	}
}

// preAuthentication is what DSSE signs: type and text with their lengths, so that neither can pass for the other.
func preAuthentication(payloadType string, payload []byte) []byte {
	out := []byte("DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " ")
	return append(out, payload...)
}

// Verify says whether one of the trusted keys signed the text as being of the type. Anything else is Refused.
func (e Envelope) Verify(trusted []ed25519.PublicKey, payloadType string) error {
	if e.PayloadType != payloadType {
		return Errorf(Refused, "the signature is of a %q and not of a %q", e.PayloadType, payloadType)
	}
	signed := preAuthentication(e.PayloadType, e.Payload)
	for _, s := range e.Signatures {
		for _, key := range trusted {
			if len(key) == ed25519.PublicKeySize && ed25519.Verify(key, signed, s.Sig) {
				return nil
			}
		}
	}
	return Errorf(Refused, "no trusted key signed it")
}

// statement is an in-toto statement (v1) as OpenSSF's model signing writes it (model_signing/signature/v1.0): each
// file with its digest, and a subject whose digest is SHA-256 over theirs, in the order of the files.
type statement struct {
	Type          string             `json:"_type"`
	Subject       []statementSubject `json:"subject"`
	PredicateType string             `json:"predicateType"`
	Predicate     statementPredicate `json:"predicate"`
}

type statementSubject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type statementPredicate struct {
	Serialization map[string]any      `json:"serialization"`
	Resources     []statementResource `json:"resources"`
}

type statementResource struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Digest    Digest `json:"digest"`
}

// Statement is what is signed of an artifact.
func (m Manifest) Statement() []byte { return canonical(m.statement()) }

func (m Manifest) statement() statement {
	root := sha256.New()
	resources := make([]statementResource, len(m.Files))
	for i, f := range m.Files {
		raw, _ := hex.DecodeString(string(f.SHA256)) // Check holds its form
		root.Write(raw)
		resources[i] = statementResource{Name: f.Path, Algorithm: "sha256", Digest: f.SHA256}
	}
	return statement{
		Type:          "https://in-toto.io/Statement/v1",
		Subject:       []statementSubject{{Name: string(m.Kind) + "/" + string(m.Digest()), Digest: map[string]string{"sha256": hex.EncodeToString(root.Sum(nil))}}},
		PredicateType: "https://model_signing/signature/v1.0",
		Predicate: statementPredicate{
			Serialization: map[string]any{"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": []string{}},
			Resources:     resources,
		},
	}
}

// VerifySigned says whether a signed statement is of this very artifact. It is Refused, with the name of the first file
// that the statement says otherwise, where it is not.
func (m Manifest) VerifySigned(e Envelope, trusted []ed25519.PublicKey) error {
	if err := e.Verify(trusted, StatementPayload); err != nil {
		return err
	}
	var said statement
	if err := json.Unmarshal(e.Payload, &said); err != nil {
		return Errorf(Refused, "the signed statement cannot be read: %w", err)
	}
	want := m.statement()
	named := map[string]Digest{}
	for _, r := range said.Predicate.Resources {
		named[r.Name] = r.Digest
	}
	for _, f := range m.Files {
		digest, there := named[f.Path]
		switch {
		case !there:
			return Errorf(Refused, "file %s was not signed", f.Path)
		case digest != f.SHA256:
			return Errorf(Refused, "file %s is not the one that was signed", f.Path)
		}
		delete(named, f.Path)
	}
	for name := range named {
		return Errorf(Refused, "file %s was signed and is not there", name)
	}
	if said.Type != want.Type || said.PredicateType != want.PredicateType || !slices.EqualFunc(said.Subject, want.Subject, sameSubject) {
		return Errorf(Refused, "the signed statement is of something else")
	}
	return nil
}

func sameSubject(a, b statementSubject) bool {
	return a.Name == b.Name && a.Digest["sha256"] == b.Digest["sha256"] && len(a.Digest) == len(b.Digest)
}

// VerifySigned says whether a signed text is this release.
func (r Release) VerifySigned(e Envelope, trusted []ed25519.PublicKey) error {
	if err := e.Verify(trusted, ReleasePayload); err != nil {
		return err
	}
	if DigestOf(e.Payload) != r.ID() {
		return Errorf(Refused, "the signature is of another release: %s", DigestOf(e.Payload).Short())
	}
	return nil
}

// Unsigned is the error for what nobody signed whom this place trusts.
func Unsigned(what string, trusted []ed25519.PublicKey) error {
	return Errorf(Refused, "%s is not signed by a trusted key (%s); whoever holds such a key signs it with: refit sign",
		what, strings.Join(KeyNames(trusted), " or "))
}
