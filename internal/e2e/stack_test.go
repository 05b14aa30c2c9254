package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/refitml/refit/internal/registry/registrytest"
)

// stack is the file that a running one-machine stack writes.
type stack struct {
	Data     string `json:"data"`
	PID      int    `json:"pid"`
	Postgres struct {
		OwnerURL    string `json:"owner_url"`
		AppURL      string `json:"app_url"`
		RollbackURL string `json:"rollback_url"`
	} `json:"postgres"`
	Temporal struct {
		Address   string `json:"address"`
		Namespace string `json:"namespace"`
		UIURL     string `json:"ui_url"`
	} `json:"temporal"`
	S3 struct {
		Endpoint  string `json:"endpoint"`
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
		Bucket    string `json:"bucket"`
	} `json:"s3"`
}

func readStack(t *testing.T, path string) stack {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var s stack
	require.NoError(t, json.Unmarshal(raw, &s))
	return s
}

// ground is what one test has of a stack: a database, a namespace and a bucket.
type ground struct {
	stack
	appURL, ownerURL, rollbackURL string
	namespace, bucket             string
}

// onSharedStack takes a piece of the stack that all tests share.
func onSharedStack(t *testing.T) ground {
	t.Helper()
	path := os.Getenv("REFIT_TEST_STACK")
	if path == "" {
		t.Skip("needs a stack: REFIT_TEST_STACK names none (bin/devstack run -- go test ./internal/e2e)")
	}
	database := registrytest.New(t)
	g := ground{
		stack: readStack(t, path), appURL: database.AppURL, ownerURL: database.OwnerURL, rollbackURL: database.RollbackURL,
		namespace: "e2e-" + strings.ToLower(rand.Text()[:12]),
	}
	g.bucket = g.namespace
	makeNamespace(t, g)
	makeBucket(t, g)
	return g
}

func makeNamespace(t *testing.T, g ground) {
	t.Helper()
	namespaces, err := client.NewNamespaceClient(client.Options{HostPort: g.Temporal.Address})
	require.NoError(t, err)
	defer namespaces.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: g.namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	await(t, "the namespace to be known", func() (bool, any) {
		_, err := namespaces.Describe(ctx, g.namespace)
		var missing *serviceerror.NamespaceNotFound
		return err == nil || !errors.As(err, &missing), err
	})
}

func makeBucket(t *testing.T, g ground) {
	t.Helper()
	s3, err := minio.New(g.S3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(g.S3.AccessKey, g.S3.SecretKey, "")})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, s3.MakeBucket(ctx, g.bucket, minio.MakeBucketOptions{}))
}

// program finds a command, or skips the test aloud.
func program(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("REFIT_BIN")
	if dir == "" {
		dir = filepath.Join("..", "..", "bin")
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	require.NoError(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs the command %s: %v (make build)", name, err)
	}
	return path
}

// freeAddress gives a loopback address that nobody listens on. Its port lies outside of the range from which the
// kernel takes ports for outgoing connections, so that it is still free after a process was killed.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		var b [2]byte
		_, _ = rand.Read(b[:])
		port := 17000 + (int(b[0])<<8|int(b[1]))%14000
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		require.NoError(t, l.Close())
		return address
	}
	t.Fatal("no free port")
	return ""
}
