package artifacts_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestAnchorsAreThereAndStay(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	list, err := s.Anchors(t.Context(), "docs")
	require.NoError(t, err)
	require.Empty(t, list)
	first := lifecycle.Anchor{Service: "docs", Epoch: 1, Sequence: 7, Chain: lifecycle.DigestOf([]byte("a")), At: time.Now().UTC()}
	second := lifecycle.Anchor{Service: "docs", Epoch: 2, Sequence: 5, Chain: lifecycle.DigestOf([]byte("b")), At: time.Now().UTC()}
	other := lifecycle.Anchor{Service: "docs-2", Epoch: 1, Sequence: 1, Chain: lifecycle.DigestOf([]byte("c")), At: time.Now().UTC()}
	for _, a := range []lifecycle.Anchor{first, second, other, first} {
		locked, err := s.PutAnchor(t.Context(), a, 24*time.Hour)
		require.NoError(t, err)
		require.True(t, locked, "the stack's bucket has object lock")
	}
	list, err = s.Anchors(t.Context(), "docs")
	require.NoError(t, err)
	require.Len(t, list, 2)
	for i, want := range []lifecycle.Anchor{first, second} {
		require.Equal(t, want.Chain, list[i].Chain)
		require.Equal(t, want.Sequence, list[i].Sequence)
		require.Equal(t, want.Epoch, list[i].Epoch)
		require.WithinDuration(t, want.At.Add(24*time.Hour), list[i].Locked, 2*time.Second)
	}
	for object := range p.raw.ListObjects(t.Context(), p.cfg.Bucket, minio.ListObjectsOptions{Prefix: p.cfg.Prefix, Recursive: true}) {
		require.NoError(t, object.Err)
		_ = p.raw.RemoveObject(t.Context(), p.cfg.Bucket, object.Key, minio.RemoveObjectOptions{GovernanceBypass: true, VersionID: object.VersionID})
	}
	list, err = s.Anchors(t.Context(), "docs")
	require.NoError(t, err)
	require.Len(t, list, 2, "nobody deletes them")
	_, err = s.PutAnchor(t.Context(), lifecycle.Anchor{Service: "docs", Sequence: 1}, time.Hour)
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
}

func TestAnchorsWithoutObjectLockSaySo(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.cfg.Bucket = "unlocked-" + strings.ToLower(rand.Text())
	require.NoError(t, p.raw.MakeBucket(t.Context(), p.cfg.Bucket, minio.MakeBucketOptions{}))
	t.Cleanup(func() {
		_ = p.raw.RemoveBucketWithOptions(context.Background(), p.cfg.Bucket, minio.RemoveBucketOptions{ForceDelete: true})
	})
	s := p.open(t)
	a := lifecycle.Anchor{Service: "docs", Epoch: 1, Sequence: 7, Chain: lifecycle.DigestOf([]byte("a")), At: time.Now().UTC()}
	locked, err := s.PutAnchor(t.Context(), a, 24*time.Hour)
	require.NoError(t, err)
	require.False(t, locked)
	list, err := s.Anchors(t.Context(), "docs")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Zero(t, list[0].Locked)
}
