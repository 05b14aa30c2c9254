package registry

import (
	"context"
	"crypto/ed25519"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/refitml/refit/internal/lifecycle"
)

// Config says where the record is. URL is required.
type Config struct {
	URL      string // of the application's role
	MaxConns int32  // connections at once; default 8
	AppName  string // shown in pg_stat_activity; default "refit"
	Lazy     bool   // do not ask the database at the start: for who must start without it

	Signer  ed25519.PrivateKey  // signs releases that are added; nil: nothing is signed
	Trusted []ed25519.PublicKey // of whom one must have signed a release that is served; none: nobody need have. Signer's own is trusted, too
}

// Registry is the record, as the application's role sees it. It is safe for concurrent use.
type Registry struct {
	pool    *pgxpool.Pool
	url     string
	signer  ed25519.PrivateKey
	trusted []ed25519.PublicKey
}

// Open prepares connections and, unless Lazy, asks the database once, so that a wrong address is found at the
// start.
func Open(ctx context.Context, config Config) (*Registry, error) {
	if config.URL == "" {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "registry.url: missing; give the address of the application's role")
	}
	parsed, err := pgxpool.ParseConfig(config.URL)
	if err != nil {
		// pgx shows the address with its password masked; the kind is what matters here.
		return nil, lifecycle.Errorf(lifecycle.Invalid, "registry.url: not an address of PostgreSQL")
	}
	parsed.MaxConns = 8
	if config.MaxConns > 0 {
		parsed.MaxConns = config.MaxConns
	}
	parsed.ConnConfig.RuntimeParams["application_name"] = "refit"
	if config.AppName != "" {
		parsed.ConnConfig.RuntimeParams["application_name"] = config.AppName
	}
	if parsed.ConnConfig.ConnectTimeout == 0 {
		parsed.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pool, err := pgxpool.NewWithConfig(ctx, parsed)
	if err != nil {
		return nil, wrap(err, "prepare connections to the registry")
	}
	if !config.Lazy {
		if err := pool.Ping(ctx); err != nil {
			pool.Close()
			return nil, wrap(err, "reach the registry")
		}
	}
	r := &Registry{pool: pool, url: config.URL, signer: config.Signer, trusted: config.Trusted}
	if len(r.trusted) > 0 && r.signer != nil {
		r.trusted = append(slices.Clone(r.trusted), r.signer.Public().(ed25519.PublicKey))
	}
	return r, nil
}

// Close gives the connections back. It waits for those in use.
func (r *Registry) Close() { r.pool.Close() }

// WithLock runs do while holding an advisory lock of the given name, waiting for it first. The lock belongs
// to one connection: if that breaks, the lock is free and do's context ends.
func (r *Registry) WithLock(ctx context.Context, name string, do func(context.Context) error) error {
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return wrap(err, "lock %s", name)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtextextended($1, 0))`, name); err != nil {
		return wrap(err, "lock %s", name)
	}
	held, lost := context.WithCancel(ctx)
	defer lost()
	stop := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchLock(held, conn, stop, lost)
	}()
	err = do(held)
	close(stop)
	<-watched
	// A connection that cannot unlock is closed, which unlocks.
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, failed := conn.Exec(unlock, `SELECT pg_advisory_unlock(hashtextextended($1, 0))`, name); failed != nil {
		_ = conn.Conn().Close(unlock)
	}
	return err
}

// watchLock ends the holder's context when the connection that holds the lock is gone.
func watchLock(ctx context.Context, conn *pgxpool.Conn, stop <-chan struct{}, lost func()) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			err := conn.Conn().Ping(limited)
			cancel()
			if err != nil {
				lost()
				return
			}
		}
	}
}

// inTx runs do in one transaction.
func (r *Registry) inTx(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, r.pool, do)
}
