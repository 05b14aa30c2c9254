package lifecycle

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func newPair(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return public, private
}

// The example of DSSE's own protocol page (protocol.md, "Test vectors").
func TestWhatIsSignedIsDSSEs(t *testing.T) {
	t.Parallel()
	require.Equal(t, "DSSEv1 29 http://example.com/HelloWorld 11 hello world", string(preAuthentication("http://example.com/HelloWorld", []byte("hello world"))))
}

func TestASignatureHoldsForItsTextTypeAndKeyOnly(t *testing.T) {
	t.Parallel()
	public, private := newPair(t)
	other, _ := newPair(t)
	e := Sign(private, ReleasePayload, []byte("text"))
	require.NoError(t, e.Verify([]ed25519.PublicKey{other, public}, ReleasePayload))
	raw, err := json.Marshal(e)
	require.NoError(t, err)
	var again Envelope
	require.NoError(t, json.Unmarshal(raw, &again))
	require.NoError(t, again.Verify([]ed25519.PublicKey{public}, ReleasePayload))

	for name, change := range map[string]func(*Envelope){
		"another text":     func(e *Envelope) { e.Payload = []byte("texT") },
		"another type":     func(e *Envelope) { e.PayloadType = StatementPayload },
		"no signature":     func(e *Envelope) { e.Signatures = nil },
		"a cut signature":  func(e *Envelope) { e.Signatures[0].Sig = e.Signatures[0].Sig[:63] },
		"another's key ID": func(e *Envelope) { e.Signatures[0] = Signature{KeyID: KeyID(public), Sig: make([]byte, 64)} },
	} {
		forged := again
		forged.Signatures = append([]Signature(nil), again.Signatures...)
		change(&forged)
		require.True(t, Is(forged.Verify([]ed25519.PublicKey{public}, ReleasePayload), Refused), name)
	}
	require.True(t, Is(e.Verify([]ed25519.PublicKey{other}, ReleasePayload), Refused))
	require.True(t, Is(e.Verify(nil, ReleasePayload), Refused))
	require.True(t, Is(e.Verify([]ed25519.PublicKey{{1, 2}}, ReleasePayload), Refused), "no key at all")
}

func manifestOf(t *testing.T, kind ArtifactKind, files map[string]string) Manifest {
	t.Helper()
	var list []File
	for name, content := range files {
		list = append(list, File{Path: name, Size: int64(len(content)), SHA256: DigestOf([]byte(content))})
	}
	m, err := NewManifest(kind, list)
	require.NoError(t, err)
	return m
}

func TestASignedArtifactIsThatArtifact(t *testing.T) {
	t.Parallel()
	public, private := newPair(t)
	trusted := []ed25519.PublicKey{public}
	m := manifestOf(t, ModelArtifact, map[string]string{"config.json": "{}", "weights": "w"})
	e := Sign(private, StatementPayload, m.Statement())
	require.NoError(t, m.VerifySigned(e, trusted))
	for name, other := range map[string]Manifest{
		"file weights is not the one that was signed": manifestOf(t, ModelArtifact, map[string]string{"config.json": "{}", "weights": "x"}),
		"file extra was not signed":                   manifestOf(t, ModelArtifact, map[string]string{"config.json": "{}", "weights": "w", "extra": ""}),
		"file weights was signed and is not there":    manifestOf(t, ModelArtifact, map[string]string{"config.json": "{}"}),
		"the signed statement is of something else":   manifestOf(t, AdapterArtifact, map[string]string{"config.json": "{}", "weights": "w"}),
	} {
		err := other.VerifySigned(e, trusted)
		require.True(t, Is(err, Refused))
		require.ErrorContains(t, err, name)
	}
	require.True(t, Is(m.VerifySigned(Sign(private, StatementPayload, []byte("{")), trusted), Refused))
	require.True(t, Is(m.VerifySigned(Sign(private, ReleasePayload, m.Statement()), trusted), Refused))
}

// The subject's digest is what OpenSSF's model signing (v1.0) computes: SHA-256 over the files' raw digests in their order.
func TestTheStatementIsModelSignings(t *testing.T) {
	t.Parallel()
	m := manifestOf(t, ModelArtifact, map[string]string{"a": "first", "b": "second"})
	var raw []byte
	for _, f := range m.Files {
		part, err := hex.DecodeString(string(f.SHA256))
		require.NoError(t, err)
		raw = append(raw, part...)
	}
	var said map[string]any
	require.NoError(t, json.Unmarshal(m.Statement(), &said))
	require.Equal(t, "https://in-toto.io/Statement/v1", said["_type"])
	require.Equal(t, "https://model_signing/signature/v1.0", said["predicateType"])
	subject := said["subject"].([]any)[0].(map[string]any)
	require.Equal(t, string(DigestOf(raw)), subject["digest"].(map[string]any)["sha256"])
	require.Len(t, said["predicate"].(map[string]any)["resources"], 2)
}

func TestASignedReleaseIsThatRelease(t *testing.T) {
	t.Parallel()
	public, private := newPair(t)
	r := Release{Service: "docs", Model: DigestOf([]byte("m"))}
	other := r
	other.Model = DigestOf([]byte("n"))
	e := Sign(private, ReleasePayload, r.Canonical())
	require.NoError(t, r.VerifySigned(e, []ed25519.PublicKey{public}))
	require.True(t, Is(other.VerifySigned(e, []ed25519.PublicKey{public}), Refused))
}
