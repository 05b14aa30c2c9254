package artifacts_test

import (
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
)

func TestCacheVerifiesHealsAndOutlivesTheStore(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	ref, m, err := s.PutFiles(t.Context(), lifecycle.ModelArtifact, sampleTree(t))
	require.NoError(t, err)
	root := t.TempDir()
	cache, err := artifacts.NewCache(s, root)
	require.NoError(t, err)
	dir, err := cache.Dir(t.Context(), ref)
	require.NoError(t, err)
	require.NoError(t, artifacts.VerifyDir(t.Context(), m, dir))

	flip(t, filepath.Join(dir, "model.safetensors"))
	again, err := cache.Dir(t.Context(), ref)
	require.NoError(t, err)
	require.Equal(t, dir, again)
	require.NoError(t, artifacts.VerifyDir(t.Context(), m, dir), "the damaged copy was replaced")

	// The same folder, while the store cannot be reached.
	away := closedAddress(t)
	cfg := p.cfg
	cfg.Endpoint, cfg.Attempts = away, 1
	unreachable, err := artifacts.Open(cfg)
	require.NoError(t, err)
	cache, err = artifacts.NewCache(unreachable, root)
	require.NoError(t, err)
	_, err = cache.Dir(t.Context(), ref)
	require.NoError(t, err, "what is there and sound is served without the store")
	flip(t, filepath.Join(dir, "config.json"))
	_, err = cache.Dir(t.Context(), ref)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "a damaged copy is never given out: %v", err)
	require.NoDirExists(t, dir)
}

func TestCacheDownloadsOnceForAll(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	ref, m, err := p.open(t).PutFiles(t.Context(), lifecycle.ModelArtifact, sampleTree(t))
	require.NoError(t, err)
	root := t.TempDir()
	name := "model-" + string(ref.Digest)
	partial := filepath.Join(root, "trees", "."+name+".partial-killed")
	require.NoError(t, os.MkdirAll(partial, 0o755))
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			s, err := artifacts.Open(p.cfg)
			if err != nil {
				t.Error(err)
				return
			}
			cache, err := artifacts.NewCache(s, root)
			if err != nil {
				t.Error(err)
				return
			}
			dir, err := cache.Dir(t.Context(), ref)
			if err == nil {
				err = artifacts.VerifyDir(t.Context(), m, dir)
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	trees, err := os.ReadDir(filepath.Join(root, "trees"))
	require.NoError(t, err)
	require.Len(t, trees, 1, "one tree, and no left-over of a killed download")
}

func TestAnUnreachableStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	s, err := artifacts.Open(artifacts.Config{Endpoint: closedAddress(t), AccessKey: "a", SecretKey: "bbbbbbbb", Bucket: "refit", Attempts: 1})
	require.NoError(t, err)
	ref := lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: lifecycle.DigestOf(nil)}
	_, err = s.Exists(t.Context(), ref)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "unreachable is not absent: %v", err)
	_, err = s.Get(t.Context(), ref, filepath.Join(t.TempDir(), "x"))
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	for _, err := range s.List(t.Context(), lifecycle.ModelArtifact) {
		require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	}
}

func TestOpenNamesAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := artifacts.Open(artifacts.Config{Endpoint: "http://x", PartSize: 1, Prefix: "/"})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, field := range []string{"endpoint", "bucket", "prefix", "part_size"} {
		require.ErrorContains(t, err, field)
	}
}

func TestATreeWithALinkIsRefused(t *testing.T) {
	t.Parallel()
	s, err := artifacts.Open(artifacts.Config{Endpoint: closedAddress(t), AccessKey: "a", SecretKey: "bbbbbbbb", Bucket: "refit", Attempts: 1})
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	_, _, err = s.Put(t.Context(), lifecycle.DatasetArtifact, dir)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	require.ErrorContains(t, err, "link")
	_, _, err = s.Put(t.Context(), lifecycle.DatasetArtifact, t.TempDir())
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "an empty tree is no artifact: %v", err)
}

// closedAddress is one where nobody listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
