package artifacts_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
)

type keyPair struct {
	public  ed25519.PublicKey
	private ed25519.PrivateKey
}

func newKeys(t *testing.T) (k keyPair) {
	t.Helper()
	var err error
	k.public, k.private, err = ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return k
}

// unreachable is a network that carries nothing.
type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no way there")
}

func TestOnlyWhatATrustedKeySignedIsLoaded(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ours, theirs := newKeys(t), newKeys(t)
	signs := func(k keyPair) func(*artifacts.Config) {
		return func(c *artifacts.Config) { c.Signer = k.private }
	}
	trusts := func(keys ...keyPair) func(*artifacts.Config) {
		return func(c *artifacts.Config) {
			for _, k := range keys {
				c.Trusted = append(c.Trusted, k.public)
			}
		}
	}
	files := func(content string) map[string][]byte { return map[string][]byte{"weights": []byte(content)} }
	unsigned, _, err := p.open(t).PutFiles(t.Context(), lifecycle.ModelArtifact, files("unsigned"))
	require.NoError(t, err)
	foreign, _, err := p.open(t, signs(theirs)).PutFiles(t.Context(), lifecycle.ModelArtifact, files("foreign"))
	require.NoError(t, err)
	signed, _, err := p.open(t, signs(ours)).PutFiles(t.Context(), lifecycle.ModelArtifact, files("signed"))
	require.NoError(t, err)

	store := p.open(t, trusts(ours))
	for name, ref := range map[string]lifecycle.ArtifactRef{"unsigned": unsigned, "foreign": foreign} {
		_, err := store.Get(t.Context(), ref, filepath.Join(t.TempDir(), "tree"))
		require.Equal(t, lifecycle.Refused, lifecycle.KindOf(err), "%s: %v", name, err)
		require.ErrorContains(t, err, ref.Digest.Short())
		cache, err := artifacts.NewCache(store, t.TempDir())
		require.NoError(t, err)
		_, err = cache.Dir(t.Context(), ref)
		require.Equal(t, lifecycle.Refused, lifecycle.KindOf(err), "%s: %v", name, err)
	}
	_, err = p.open(t, trusts(theirs, ours)).Manifest(t.Context(), foreign)
	require.NoError(t, err, "any trusted key will do")
	require.NoError(t, p.open(t, signs(ours)).Sign(t.Context(), unsigned), "it can be signed later")
	_, err = store.Manifest(t.Context(), unsigned)
	require.NoError(t, err)
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(store.Sign(t.Context(), foreign)), "without a key nobody signs")

	root := t.TempDir()
	cache, err := artifacts.NewCache(store, root)
	require.NoError(t, err)
	dir, err := cache.Dir(t.Context(), signed)
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "weights"))
	cfg := p.cfg
	cfg.Trusted, cfg.Transport, cfg.Attempts = []ed25519.PublicKey{ours.public}, unreachable{}, 1
	gone, err := artifacts.Open(cfg)
	require.NoError(t, err)
	away, err := artifacts.NewCache(gone, root)
	require.NoError(t, err)
	_, err = away.Dir(t.Context(), signed)
	require.NoError(t, err, "what is cached is trusted without the store")
	stranger, err := artifacts.NewCache(p.open(t, trusts(theirs)), root)
	require.NoError(t, err)
	_, err = stranger.Dir(t.Context(), signed)
	require.Equal(t, lifecycle.Refused, lifecycle.KindOf(err), "but not by who trusts another key")

	// A signature of something else under this one's name.
	sigs := func(ref lifecycle.ArtifactRef) string {
		return p.cfg.Prefix + "/signatures/model/" + string(ref.Digest) + "/" + lifecycle.KeyID(ours.public) + ".sigstore.json"
	}
	other, err := p.raw.GetObject(t.Context(), p.cfg.Bucket, sigs(unsigned), minio.GetObjectOptions{})
	require.NoError(t, err)
	var body bytes.Buffer
	_, err = body.ReadFrom(other)
	require.NoError(t, err)
	_, err = p.raw.PutObject(t.Context(), p.cfg.Bucket, sigs(signed), &body, int64(body.Len()), minio.PutObjectOptions{})
	require.NoError(t, err)
	_, err = store.Manifest(t.Context(), signed)
	require.Equal(t, lifecycle.Refused, lifecycle.KindOf(err))
	require.ErrorContains(t, err, "file weights is not the one that was signed")
	require.NoError(t, p.open(t, signs(ours)).Sign(t.Context(), signed), "a signature that does not hold is written anew")
	_, err = store.Manifest(t.Context(), signed)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(root))
}
