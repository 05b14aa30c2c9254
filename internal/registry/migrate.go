package registry

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/refitml/refit/internal/lifecycle"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the database to this Refit's schema as its owner. Several may do so at once: one works, the
// others wait and find nothing to do. The roles refit_app and refit_rollback must exist.
func Migrate(ctx context.Context, ownerURL string) error {
	provider, db, err := migrator(ownerURL)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := provider.Up(ctx); err != nil {
		return wrap(err, "migrate the registry")
	}
	return nil
}

// SchemaVersion gives the version of the database's schema and the version that this Refit brings.
func SchemaVersion(ctx context.Context, ownerURL string) (is, wanted int64, err error) {
	provider, db, err := migrator(ownerURL)
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	is, wanted, err = provider.GetVersions(ctx)
	return is, wanted, wrap(err, "read the registry's schema version")
}

func migrator(ownerURL string) (*goose.Provider, *sql.DB, error) {
	config, err := pgx.ParseConfig(ownerURL)
	if err != nil || ownerURL == "" {
		return nil, nil, lifecycle.Errorf(lifecycle.Invalid, "registry.owner_url: missing or not an address of PostgreSQL")
	}
	config.RuntimeParams["application_name"] = "refit-migrate"
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, wrap(err, "read the migrations")
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, nil, wrap(err, "prepare the migrations' lock")
	}
	db := stdlib.OpenDB(*config)
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		db.Close()
		return nil, nil, wrap(err, "prepare the migrations")
	}
	return provider, db, nil
}
