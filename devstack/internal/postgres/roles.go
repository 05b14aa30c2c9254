package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Role is one login role and its password.
type Role struct {
	Name, Password string
	CreateDB       bool
}

// Database is one database, its owner, and who else may connect.
type Database struct {
	Name, Owner string
	Connect     []string
}

// Provide makes roles and databases what they are declared to be, as the superuser behind adminURL. What is
// there already stays; passwords are set anew. Only those named may connect to a database.
func Provide(ctx context.Context, adminURL string, roles []Role, databases []Database) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("connect as superuser: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, role := range roles {
		if err := provideRole(ctx, conn, role); err != nil {
			return fmt.Errorf("provide role %s: %w", role.Name, err)
		}
	}
	for _, database := range databases {
		if err := provideDatabase(ctx, conn, database); err != nil {
			return fmt.Errorf("provide database %s: %w", database.Name, err)
		}
	}
	return nil
}

func provideRole(ctx context.Context, conn *pgx.Conn, role Role) error {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)`, role.Name).Scan(&there); err != nil {
		return err
	}
	verb := "CREATE"
	if there {
		verb = "ALTER"
	}
	createDB := "NOCREATEDB"
	if role.CreateDB {
		createDB = "CREATEDB"
	}
	// Passwords are letters and digits that this program drew; a statement of this kind takes no parameters.
	_, err := conn.Exec(ctx, fmt.Sprintf(`%s ROLE %s LOGIN NOSUPERUSER NOCREATEROLE %s PASSWORD '%s'`,
		verb, quote(role.Name), createDB, role.Password))
	return err
}

func provideDatabase(ctx context.Context, conn *pgx.Conn, database Database) error {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, database.Name).Scan(&there); err != nil {
		return err
	}
	if !there {
		if _, err := conn.Exec(ctx, fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, quote(database.Name), quote(database.Owner))); err != nil {
			return err
		}
	}
	if _, err := conn.Exec(ctx, fmt.Sprintf(`REVOKE ALL ON DATABASE %s FROM PUBLIC`, quote(database.Name))); err != nil {
		return err
	}
	for _, name := range database.Connect {
		if _, err := conn.Exec(ctx, fmt.Sprintf(`GRANT CONNECT ON DATABASE %s TO %s`, quote(database.Name), quote(name))); err != nil {
			return err
		}
	}
	return nil
}

// Finished reports whether the database carries the mark that MarkFinished sets.
func Finished(ctx context.Context, adminURL, database string) (bool, error) {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return false, fmt.Errorf("connect as superuser: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var finished bool
	err = conn.QueryRow(ctx, `SELECT coalesce((SELECT shobj_description(oid, 'pg_database') = $2 FROM pg_database WHERE datname = $1), false)`,
		database, finishedMark).Scan(&finished)
	if err != nil {
		return false, fmt.Errorf("read mark of database %s: %w", database, err)
	}
	return finished, nil
}

const finishedMark = "schema complete"

// MarkFinished records in the cluster that the database's first schema is whole.
func MarkFinished(ctx context.Context, adminURL, database string) error {
	return execAdmin(ctx, adminURL, fmt.Sprintf(`COMMENT ON DATABASE %s IS '%s'`, quote(database), finishedMark))
}

// Drop removes a database and all in it. That it is not there is no fault.
func Drop(ctx context.Context, adminURL, database string) error {
	return execAdmin(ctx, adminURL, fmt.Sprintf(`DROP DATABASE IF EXISTS %s WITH (FORCE)`, quote(database)))
}

func execAdmin(ctx context.Context, adminURL, statement string) error {
	conn, err := pgx.Connect(ctx, adminURL)
	if err != nil {
		return fmt.Errorf("connect as superuser: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("run %q: %w", statement, err)
	}
	return nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }
