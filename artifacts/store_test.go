package artifacts_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
)

const partSize = 5 << 20

// place is a prefix of its own in the stack's bucket.
type place struct {
	cfg artifacts.Config
	raw *minio.Client // to look behind the store and to damage things
}

func newPlace(t *testing.T) place {
	t.Helper()
	file := os.Getenv("REFIT_TEST_STACK")
	if file == "" {
		t.Skip("REFIT_TEST_STACK names no stack file: this test needs a real S3")
	}
	raw, err := os.ReadFile(file)
	require.NoError(t, err)
	var stack struct {
		S3 struct {
			Endpoint  string `json:"endpoint"`
			AccessKey string `json:"access_key"`
			SecretKey string `json:"secret_key"`
			Bucket    string `json:"bucket"`
		} `json:"s3"`
	}
	require.NoError(t, json.Unmarshal(raw, &stack))
	client, err := minio.New(stack.S3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(stack.S3.AccessKey, stack.S3.SecretKey, "")})
	require.NoError(t, err)
	return place{raw: client, cfg: artifacts.Config{
		Endpoint: stack.S3.Endpoint, AccessKey: stack.S3.AccessKey, SecretKey: stack.S3.SecretKey, Bucket: stack.S3.Bucket,
		Prefix: "test-artifacts/" + hex.EncodeToString(randomBytes(t, 8)), PartSize: partSize,
	}}
}

func (p place) open(t *testing.T, change ...func(*artifacts.Config)) *artifacts.Store {
	t.Helper()
	cfg := p.cfg
	for _, c := range change {
		c(&cfg)
	}
	s, err := artifacts.Open(cfg)
	require.NoError(t, err)
	require.NoError(t, s.EnsureBucket(t.Context()))
	return s
}

// damage flips one bit of the stored bytes of a file.
func (p place) damage(t *testing.T, d lifecycle.Digest) {
	t.Helper()
	key := p.cfg.Prefix + "/blobs/sha256/" + string(d[:2]) + "/" + string(d)
	object, err := p.raw.GetObject(t.Context(), p.cfg.Bucket, key, minio.GetObjectOptions{})
	require.NoError(t, err)
	var body bytes.Buffer
	_, err = body.ReadFrom(object)
	require.NoError(t, err)
	body.Bytes()[body.Len()/2] ^= 1
	_, err = p.raw.PutObject(t.Context(), p.cfg.Bucket, key, &body, int64(body.Len()), minio.PutObjectOptions{})
	require.NoError(t, err)
}

func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	_, err := rand.Read(b)
	require.NoError(t, err)
	return b
}

func writeTree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for path, body := range files {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(path)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), body, 0o644))
	}
	return dir
}

func sampleTree(t *testing.T) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"config.json":           []byte(`{"layers":4}`),
		"model.safetensors":     randomBytes(t, 2*partSize+12345), // three parts
		"train/part-0001.jsonl": []byte("{}\n"),
		"empty":                 {},
		"odd name/ü & +.txt":    []byte("names are bytes"),
	}
}

func TestWhatWasPutIsGot(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	files := sampleTree(t)
	ref, m, err := s.Put(t.Context(), lifecycle.ModelArtifact, writeTree(t, files))
	require.NoError(t, err)
	require.Equal(t, m.Digest(), ref.Digest)
	require.Len(t, m.Files, len(files))

	dir := filepath.Join(t.TempDir(), "model")
	got, err := s.Get(t.Context(), ref, dir)
	require.NoError(t, err)
	require.Equal(t, m, got)
	for path, body := range files {
		read, err := os.ReadFile(filepath.Join(dir, path))
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, read), path)
		info, err := os.Stat(filepath.Join(dir, path))
		require.NoError(t, err)
		require.Zero(t, info.Mode()&0o222, "%s is read-only", path)
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	require.Len(t, left, 1, "nothing but the folder asked for")
	require.NoError(t, s.Verify(t.Context(), ref))

	card, err := s.ReadFile(t.Context(), ref, "config.json", 100)
	require.NoError(t, err)
	require.Equal(t, files["config.json"], card)
	_, err = s.ReadFile(t.Context(), ref, "config.json", 3)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	_, err = s.ReadFile(t.Context(), ref, "no.json", 3)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
}

func TestEqualContentIsOneArtifact(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	files := sampleTree(t)
	dir := writeTree(t, files)
	refs := make([]lifecycle.ArtifactRef, 6)
	var group sync.WaitGroup
	for i := range refs {
		group.Add(1)
		go func() {
			defer group.Done()
			s, err := artifacts.Open(p.cfg)
			if err == nil && i%2 == 0 {
				refs[i], _, err = s.Put(context.Background(), lifecycle.ModelArtifact, dir)
			} else if err == nil {
				refs[i], _, err = s.PutFiles(context.Background(), lifecycle.ModelArtifact, files)
			}
			if err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		}()
	}
	group.Wait()
	for _, ref := range refs {
		require.Equal(t, refs[0], ref)
	}
	s := p.open(t)
	require.NoError(t, s.Verify(t.Context(), refs[0]))
	var listed []lifecycle.ArtifactRef
	for ref, err := range s.List(t.Context(), lifecycle.ModelArtifact) {
		require.NoError(t, err)
		listed = append(listed, ref)
	}
	require.Equal(t, refs[:1], listed)
	for _, err := range s.List(t.Context(), lifecycle.ReportArtifact) {
		t.Errorf("a model is listed as a report (%v)", err)
	}
	other, _, err := s.PutFiles(t.Context(), lifecycle.ReportArtifact, files)
	require.NoError(t, err)
	require.NotEqual(t, refs[0].Digest, other.Digest, "the kind is part of the identity")
}

func TestOneFlippedBitIsRefused(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"in a small file": "config.json", "in a file of parts": "model.safetensors"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			s := p.open(t)
			ref, m, err := s.PutFiles(t.Context(), lifecycle.ModelArtifact, sampleTree(t))
			require.NoError(t, err)
			for _, f := range m.Files {
				if f.Path == file {
					p.damage(t, f.SHA256)
				}
			}
			dir := filepath.Join(t.TempDir(), "model")
			_, err = s.Get(t.Context(), ref, dir)
			requireCorrupt(t, err, file)
			left, err := os.ReadDir(filepath.Dir(dir))
			require.NoError(t, err)
			require.Empty(t, left, "nothing damaged stays on the disk")
			requireCorrupt(t, s.Verify(t.Context(), ref), file)
			_, err = s.ReadFile(t.Context(), ref, file, 1<<30)
			requireCorrupt(t, err, file)
		})
	}
}

func TestADamagedManifestIsRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	files := map[string][]byte{"report.json": []byte("{}")}
	ref, m, err := s.PutFiles(t.Context(), lifecycle.ReportArtifact, files)
	require.NoError(t, err)
	body := m.Canonical()
	body[len(body)/2] ^= 1
	_, err = p.raw.PutObject(t.Context(), p.cfg.Bucket, p.cfg.Prefix+"/artifacts/report/"+string(ref.Digest)+".json",
		bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	require.NoError(t, err)
	_, err = s.Get(t.Context(), ref, filepath.Join(t.TempDir(), "r"))
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%v", err)
	_, _, err = s.PutFiles(t.Context(), lifecycle.ReportArtifact, files)
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "writing over damage says so: %v", err)
}

func TestAFolderThatIsThereIsHeldAgainstTheManifest(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	ref, _, err := s.PutFiles(t.Context(), lifecycle.ModelArtifact, sampleTree(t))
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "model")
	_, err = s.Get(t.Context(), ref, dir)
	require.NoError(t, err)
	_, err = s.Get(t.Context(), ref, dir)
	require.NoError(t, err, "a sound folder is kept")
	flip(t, filepath.Join(dir, "model.safetensors"))
	_, err = s.Get(t.Context(), ref, dir)
	requireCorrupt(t, err, "model.safetensors")
	flip(t, filepath.Join(dir, "model.safetensors"))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "extra"), nil, 0o644))
	_, err = s.Get(t.Context(), ref, dir)
	require.True(t, lifecycle.Is(err, lifecycle.Conflict), "%v", err)
}

func TestAnInterruptedUploadGoesOn(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.open(t)
	const parts = 6
	dir := writeTree(t, map[string][]byte{"model.safetensors": randomBytes(t, parts*partSize-99)})
	// The network dies for good after three parts.
	dying := &countingTransport{limit: 3}
	cfg := p.cfg
	cfg.Transport, cfg.Attempts, cfg.Concurrency = dying, 1, 1
	s, err := artifacts.Open(cfg)
	require.NoError(t, err)
	_, _, err = s.Put(t.Context(), lifecycle.ModelArtifact, dir)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	for ref := range p.open(t).List(t.Context(), lifecycle.ModelArtifact) {
		t.Errorf("half-written %s is visible", ref.Digest)
	}

	counting := &countingTransport{limit: 1000}
	s = p.open(t, func(c *artifacts.Config) { c.Transport = counting })
	ref, _, err := s.Put(t.Context(), lifecycle.ModelArtifact, dir)
	require.NoError(t, err)
	require.EqualValues(t, parts-3, counting.parts.Load(), "the parts that are there are not sent again")
	require.NoError(t, s.Verify(t.Context(), ref))
}

func TestAnUnfinishedUploadOfOtherBytesIsNotTrusted(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	body := randomBytes(t, 2*partSize)
	d := lifecycle.DigestOf(body)
	key := p.cfg.Prefix + "/blobs/sha256/" + string(d[:2]) + "/" + string(d)
	core := minio.Core{Client: p.raw}
	upload, err := core.NewMultipartUpload(t.Context(), p.cfg.Bucket, key, minio.PutObjectOptions{})
	require.NoError(t, err)
	wrong := randomBytes(t, partSize)
	_, err = core.PutObjectPart(t.Context(), p.cfg.Bucket, key, upload, 1, bytes.NewReader(wrong), partSize, minio.PutObjectPartOptions{})
	require.NoError(t, err)
	ref, _, err := s.PutFiles(t.Context(), lifecycle.ModelArtifact, map[string][]byte{"m": body})
	require.NoError(t, err)
	require.NoError(t, s.Verify(t.Context(), ref))
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	ref := lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: lifecycle.DigestOf(randomBytes(t, 9))}
	there, err := s.Exists(t.Context(), ref)
	require.NoError(t, err)
	require.False(t, there)
	_, err = s.Get(t.Context(), ref, filepath.Join(t.TempDir(), "x"))
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	_, err = s.Manifest(t.Context(), lifecycle.ArtifactRef{Kind: "model", Digest: "../../etc"})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)

	put, _, err := s.PutFiles(t.Context(), lifecycle.ReportArtifact, map[string][]byte{"a": []byte("a")})
	require.NoError(t, err)
	there, err = s.Exists(t.Context(), put)
	require.NoError(t, err)
	require.True(t, there)
	cfg := p.cfg
	cfg.SecretKey, cfg.Attempts = "wrong", 1
	wrong, err := artifacts.Open(cfg)
	require.NoError(t, err)
	_, err = wrong.Exists(t.Context(), put)
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	require.NotContains(t, err.Error(), p.cfg.SecretKey)
}

func TestFilesThatPeoplePutThereAreBroughtWithinBounds(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	s := p.open(t)
	put := func(name, content string) {
		_, err := p.raw.PutObject(t.Context(), p.cfg.Bucket, p.cfg.Prefix+"/"+name, strings.NewReader(content), int64(len(content)), minio.PutObjectOptions{})
		require.NoError(t, err)
	}
	most := artifacts.Plain{Bytes: 10, Files: 2}
	err := s.GetPlain(t.Context(), "suites/a", t.TempDir(), most)
	require.True(t, lifecycle.Is(err, lifecycle.NotFound), "%v", err)
	put("suites/a/suite.yaml", "12345")
	put("suites/a/more/cases.jsonl", "67890")
	put("suites/ab/other", "x")
	dir := t.TempDir()
	require.NoError(t, s.GetPlain(t.Context(), "suites/a", dir, most))
	for name, want := range map[string]string{"suite.yaml": "12345", "more/cases.jsonl": "67890"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	require.NoFileExists(t, filepath.Join(dir, "other"))
	err = s.GetPlain(t.Context(), "suites/a", t.TempDir(), artifacts.Plain{Bytes: 9, Files: 2})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	err = s.GetPlain(t.Context(), "suites/a", t.TempDir(), artifacts.Plain{Bytes: 10, Files: 1})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

func requireCorrupt(t *testing.T, err error, file string) {
	t.Helper()
	require.True(t, lifecycle.Is(err, lifecycle.Corrupt), "%v", err)
	var e *lifecycle.Error
	require.True(t, errors.As(err, &e))
	require.Equal(t, file, e.Fields["file"])
	require.Contains(t, err.Error(), file)
}

func flip(t *testing.T, path string) {
	t.Helper()
	body, err := os.ReadFile(path)
	require.NoError(t, err)
	body[len(body)/2] ^= 1
	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, os.WriteFile(path, body, 0o644))
}

// countingTransport lets a number of parts through; then nothing at all.
type countingTransport struct {
	limit int64
	parts atomic.Int64
}

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPut && strings.Contains(r.URL.RawQuery, "partNumber") {
		c.parts.Add(1)
	}
	if c.parts.Load() > c.limit {
		return nil, errors.New("the network is gone")
	}
	return http.DefaultTransport.RoundTrip(r)
}
