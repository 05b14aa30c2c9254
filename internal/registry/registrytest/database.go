package registrytest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// Database is a migrated registry that no other test sees.
type Database struct {
	Registry                      *registry.Registry // opened with AppURL
	AppURL, OwnerURL, RollbackURL string
}

type stack struct {
	Postgres struct {
		Owner    string `json:"owner_url"`
		App      string `json:"app_url"`
		Rollback string `json:"rollback_url"`
	} `json:"postgres"`
}

// New makes a database on the stack that REFIT_TEST_STACK names, and drops it when the test ends. It skips the
// test where no stack is named.
func New(t testing.TB) Database {
	t.Helper()
	s := stackOf(t)
	template := templateOf(t, s)
	name := "refit_test_" + strings.ToLower(rand.Text())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, admin(ctx, s, "CREATE DATABASE "+name+" TEMPLATE "+template))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, drop(ctx, s, name))
	})
	d := Database{AppURL: within(t, s.Postgres.App, name), OwnerURL: within(t, s.Postgres.Owner, name), RollbackURL: within(t, s.Postgres.Rollback, name)}
	opened, err := registry.Open(ctx, registry.Config{URL: d.AppURL, MaxConns: 24})
	require.NoError(t, err)
	t.Cleanup(opened.Close)
	d.Registry = opened
	return d
}

func stackOf(t testing.TB) stack {
	t.Helper()
	path := os.Getenv("REFIT_TEST_STACK")
	if path == "" {
		t.Skip("needs PostgreSQL: REFIT_TEST_STACK names no stack (make test-stack-up)")
	}
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var s stack
	require.NoError(t, json.Unmarshal(raw, &s))
	require.NotEmpty(t, s.Postgres.Owner, "the stack file %s has no owner_url", path)
	return s
}

// The template is migrated once a process. It is named by the process, so that test binaries do not meet.
var (
	templateOnce sync.Mutex
	templateName string
)

func templateOf(t testing.TB, s stack) string {
	t.Helper()
	templateOnce.Lock()
	defer templateOnce.Unlock()
	if templateName != "" {
		return templateName
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	dropLeftTemplates(ctx, t, s)
	name := fmt.Sprintf("refit_template_%d_%s", os.Getpid(), strings.ToLower(rand.Text()))
	require.NoError(t, admin(ctx, s, "CREATE DATABASE "+name))
	require.NoError(t, registry.Migrate(ctx, within(t, s.Postgres.Owner, name)))
	templateName = name
	return name
}

// dropLeftTemplates removes templates of processes that are gone: nothing tells a test binary that it ends.
func dropLeftTemplates(ctx context.Context, t testing.TB, s stack) {
	conn, err := pgx.Connect(ctx, s.Postgres.Owner)
	require.NoError(t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE datname LIKE 'refit\_template\_%'`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, name := range names {
		pid := strings.Split(strings.TrimPrefix(name, "refit_template_"), "_")[0]
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			_, _ = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize())
		}
	}
}

// drop waits until the last backend of the database has ended, which is a moment after its client closed. The
// owner may not end other roles' backends.
func drop(ctx context.Context, s stack, name string) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := admin(ctx, s, "DROP DATABASE "+name)
		var state *pgconn.PgError
		if !errors.As(err, &state) || state.Code != "55006" { // object in use
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

func admin(ctx context.Context, s stack, statement string) error {
	conn, err := pgx.Connect(ctx, s.Postgres.Owner)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

func within(t testing.TB, address, database string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.Path = "/" + database
	return u.String()
}

// Service is a small declaration that passes its check.
func Service(name string) lifecycle.Service {
	return lifecycle.Service{
		Name:    name,
		Serving: lifecycle.Serving{Engine: "static", Endpoints: []lifecycle.StaticEndpoint{{URL: "http://127.0.0.1:1"}}},
	}.WithDefaults()
}

// Release is a release of a service that differs by n.
func Release(service string, n int) lifecycle.Release {
	return lifecycle.Release{Service: service, Model: lifecycle.DigestOf(fmt.Appendf(nil, "model %d", n))}
}
