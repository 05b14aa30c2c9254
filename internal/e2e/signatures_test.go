package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// With no settings but where its servers are, `refit up` signs what it makes and loads nothing that it did not sign.
func TestWhatNobodySignedIsNotLoaded(t *testing.T) {
	t.Parallel()
	s := &served{world: newWorld(t, onSharedStack(t)), models: newModels(t)}
	up, address := s.upByDefault()
	s.declare([]step{{5000, 5}})
	built, err := ended[steps.BuildDatasetResult](s.world, s.startInUI(steps.BuildDataset, map[string]string{"service": s.service, "corpus": "base"}))
	require.NoError(t, err)

	// The test's own key is a stranger's here.
	s.nextCandidate("first")
	s.refuses("not signed by a trusted key")
	var done []struct {
		Service   string `json:"service"`
		Artifacts int    `json:"artifacts"`
		Releases  int    `json:"releases"`
	}
	s.refit(&done, "sign", "--all")
	require.Len(t, done, 1)
	require.Positive(t, done[0].Artifacts)
	require.Equal(t, 1, done[0].Releases)
	s.refit(nil, "promote", s.service, "--release", string(s.candidate), "--watch")
	s.awaitOK("http://" + address + "/readyz")
	var status struct {
		Signing string `json:"signing"`
	}
	s.refit(&status, "status", s.service)
	require.Contains(t, status.Signing, "asked for, by key")

	// The next gate reads the dataset anew from S3: somebody changed something there.
	s.nextCandidate("second")
	s.refit(nil, "sign", s.service)
	s3, dataset := s.objects(), built.Dataset
	file := s3.file(dataset)
	for _, c := range []struct {
		what   string
		change func() (undo func())
		said   string
	}{
		{"unsigned", func() func() { return s3.remove(s.signatureOf(dataset)) }, "dataset " + dataset.Short() + " is not signed by a trusted key"},
		{"signed by a stranger", func() func() { return s3.change(s.signatureOf(dataset), resigned(s.path("signing.pem"), nil)) }, "no trusted key signed it"},
		{"not what was signed", func() func() {
			return s3.change(s.signatureOf(dataset), resigned(s.path("data", "signing-key.pem"), func(statement string) string {
				return strings.Replace(statement, string(file.SHA256), strings.Repeat("0", 64), 1)
			}))
		}, "file " + file.Path + " is not the one that was signed"},
		{"changed", func() func() {
			return s3.change("blobs/sha256/"+string(file.SHA256[:2])+"/"+string(file.SHA256), func(raw []byte) []byte {
				raw = slices.Clone(raw)
				raw[len(raw)/2] ^= 1
				return raw
			})
		}, file.Path},
	} {
		t.Log(c.what)
		up.kill()
		require.NoError(t, os.RemoveAll(s.path("data", "cache")))
		undo := c.change()
		up.start()
		s.awaitOK(s.controlURL + "/healthz")
		s.refuses(c.said)
		undo()
	}
	s.refit(nil, "promote", s.service, "--release", string(s.candidate), "--approval")
	await(t, "a promotion that passed its gate", func() (bool, any) {
		r := s.route()
		return r.Canary == s.candidate, r
	})
	s.refit(nil, "abort", s.service, "--reason", "the test is over")
}

// upByDefault starts `refit up` with nothing said of signatures, and its gateway's address.
func (s *served) upByDefault() (*process, string) {
	s.t.Helper()
	s.env = slices.DeleteFunc(s.env, func(line string) bool { return strings.HasPrefix(line, "REFIT_SIGNING_") })
	address := freeAddress(s.t)
	up := newProcess(s.t, s.path("logs"), "up", append(slices.Clone(s.env), "REFIT_GATEWAY_LISTEN="+address), s.binary, "up")
	up.start()
	s.awaitOK(s.controlURL + "/healthz")
	return up, address
}

// refuses promotes the candidate, which must end as refused and say why.
func (s *served) refuses(why string) {
	s.t.Helper()
	o := s.try("promote", s.service, "--release", string(s.candidate), "--watch")
	require.Contains(s.t, o.stdout+o.stderr, why)
	require.NotZero(s.t, o.code)
	require.NotEqual(s.t, s.candidate, s.route().Stable)
	require.Empty(s.t, s.route().Canary)
}

// signatureOf names the object that holds `refit up`'s signature of a dataset.
func (s *served) signatureOf(dataset lifecycle.Digest) string {
	s.t.Helper()
	key := readKey(s.path("data", "signing-key.pem"))
	return "signatures/dataset/" + string(dataset) + "/" + lifecycle.KeyID(key.Public().(ed25519.PublicKey)) + ".sigstore.json"
}

func readKey(path string) ed25519.PrivateKey {
	raw, _ := os.ReadFile(path)
	block, _ := pem.Decode(raw)
	parsed, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
	return parsed.(ed25519.PrivateKey)
}

// resigned changes a signature's statement and signs it with a key.
func resigned(keyFile string, change func(string) string) func([]byte) []byte {
	return func(raw []byte) []byte {
		var bundle map[string]json.RawMessage
		var envelope lifecycle.Envelope
		_ = json.Unmarshal(raw, &bundle)
		_ = json.Unmarshal(bundle["dsseEnvelope"], &envelope)
		statement := string(envelope.Payload)
		if change != nil {
			statement = change(statement)
		}
		bundle["dsseEnvelope"], _ = json.Marshal(lifecycle.Sign(readKey(keyFile), lifecycle.StatementPayload, []byte(statement)))
		out, _ := json.Marshal(bundle)
		return out
	}
}

// bucket is the test's own way to S3.
type bucket struct {
	*world
	client *minio.Client
}

func (w *world) objects() bucket {
	w.t.Helper()
	client, err := minio.New(w.S3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(w.S3.AccessKey, w.S3.SecretKey, "")})
	require.NoError(w.t, err)
	return bucket{w, client}
}

func (b bucket) read(key string) []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	object, err := b.client.GetObject(ctx, b.ground.bucket, key, minio.GetObjectOptions{})
	require.NoError(b.t, err)
	raw, err := io.ReadAll(object)
	require.NoError(b.t, err, key)
	return raw
}

func (b bucket) write(key string, raw []byte) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := b.client.PutObject(ctx, b.ground.bucket, key, bytes.NewReader(raw), int64(len(raw)), minio.PutObjectOptions{})
	require.NoError(b.t, err)
}

// change changes an object until it is undone.
func (b bucket) change(key string, how func([]byte) []byte) (undo func()) {
	b.t.Helper()
	before := b.read(key)
	after := how(before)
	require.NotEqual(b.t, before, after)
	b.write(key, after)
	return func() { b.write(key, before) }
}

func (b bucket) remove(key string) (undo func()) {
	b.t.Helper()
	before := b.read(key)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(b.t, b.client.RemoveObject(ctx, b.ground.bucket, key, minio.RemoveObjectOptions{}))
	return func() { b.write(key, before) }
}

// file gives the largest file of a dataset.
func (b bucket) file(dataset lifecycle.Digest) lifecycle.File {
	b.t.Helper()
	var m lifecycle.Manifest
	require.NoError(b.t, json.Unmarshal(b.read("artifacts/dataset/"+string(dataset)+".json"), &m))
	return slices.MaxFunc(m.Files, func(a, b lifecycle.File) int { return int(a.Size - b.Size) })
}
