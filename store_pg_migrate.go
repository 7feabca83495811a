package anchor

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered file of migrations/.
type migration struct {
	version int
	name    string
	sql     string
}

// migrations are the embedded ones in order, numbered from 1 without a gap.
var migrations = mustReadMigrations(migrationFiles)

func mustReadMigrations(files fs.FS) []migration {
	paths, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		panic(err)
	}
	var read []migration
	for i, path := range paths {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "migrations/"), ".sql")
		number, _, _ := strings.Cut(name, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			panic(fmt.Sprintf("anchor: migration %q is not number %d", path, i+1))
		}
		sql, err := fs.ReadFile(files, path)
		if err != nil {
			panic(err)
		}
		read = append(read, migration{version: version, name: name, sql: string(sql)})
	}
	return read
}

const (
	// The key is this library's own; the schema's name is hashed in, so that schemas do not wait for each other.
	lockMigrations = `select pg_advisory_xact_lock(1634624361, hashtext($1))`

	selectSchema = `select exists (select from pg_namespace where nspname = $1)`

	createMigrations = `create table if not exists {schema}.anchor_migrations (
  version integer primary key,
  name text not null,
  applied_at timestamptz not null default now()
)`
	selectMigrationsTable = `select to_regclass('{schema}.anchor_migrations') is not null`
	selectVersion         = `select coalesce(max(version), 0) from {schema}.anchor_migrations`
	insertVersion         = `insert into {schema}.anchor_migrations (version, name) values ($1, $2)`
)

// Migrate brings the schema to the version that this library needs: each migration in a transaction of its
// own, under an advisory lock, so that any number of processes may call it at once. It needs the right to create
// tables only when there is something to do. It refuses a schema that a newer version of this library has migrated.
func (s *PGStore) Migrate(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	for {
		done, err := s.migrateOne(ctx)
		if err != nil || done {
			return err
		}
	}
}

// migrateOne applies the next migration that is missing, if any.
func (s *PGStore) migrateOne(ctx context.Context) (done bool, err error) {
	if version, err := s.version(ctx, s.pool); err == nil && version == len(migrations) {
		return true, nil
	}
	tried := "migrate"
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockMigrations, s.schema); err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, selectSchema, s.schema).Scan(&exists); err != nil {
			return err
		}
		if !exists {
			if _, err := tx.Exec(ctx, s.sql(`create schema {schema}`)); err != nil {
				return err
			}
		}
		version, err := s.version(ctx, tx)
		if err != nil {
			return err
		}
		if version > len(migrations) {
			return s.newerSchema(version)
		}
		if version == len(migrations) {
			done = true
			return nil
		}
		if version == 0 {
			if _, err := tx.Exec(ctx, s.sql(createMigrations)); err != nil {
				return err
			}
		}
		next := migrations[version]
		tried = "migration " + next.name
		if _, err := tx.Exec(ctx, s.sql(next.sql)); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, s.sql(insertVersion), next.version, next.name)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("anchor: %s: %w", tried, err)
	}
	return done, nil
}

// version is the schema's, 0 when there is none.
func (s *PGStore) version(ctx context.Context, db querier) (int, error) {
	var exists bool
	if err := db.QueryRow(ctx, s.sql(selectMigrationsTable)).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	var version int
	err := db.QueryRow(ctx, s.sql(selectVersion)).Scan(&version)
	return version, err
}

func (s *PGStore) newerSchema(version int) error {
	return fmt.Errorf("the schema %q is at version %d, this library knows up to %d: upgrade the library", s.schema, version, len(migrations))
}

// CheckMigrated changes nothing: it returns an error where errors.Is(err, ErrNotMigrated) is true unless the schema is
// at the version that this library needs. [Client.Work] begins with it.
func (s *PGStore) CheckMigrated(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.checkVersion(ctx)
}

// checkVersion answers ErrNotMigrated unless the schema is the one that this library needs.
func (s *PGStore) checkVersion(ctx context.Context) error {
	version, err := s.version(ctx, s.pool)
	switch {
	case err != nil:
		return storeError("read the schema's version", err)
	case version > len(migrations):
		return fmt.Errorf("%w: %w", ErrNotMigrated, s.newerSchema(version))
	case version < len(migrations):
		return fmt.Errorf("%w: the schema %q is at version %d, this library needs %d: call Migrate", ErrNotMigrated, s.schema, version, len(migrations))
	}
	return nil
}

// MigrationSQL is what Migrate does to an empty database, as one script, for those who run their own
// migrations: run it in one transaction, as the owner-to-be of the tables.
func (s *PGStore) MigrationSQL() string {
	var b strings.Builder
	if s.schema != "public" {
		b.WriteString(s.sql("create schema if not exists {schema};\n\n"))
	}
	b.WriteString(s.sql(createMigrations) + ";\n")
	for _, m := range migrations {
		fmt.Fprintf(&b, "\n-- %s\n\n%s\n", m.name, s.sql(m.sql))
		b.WriteString(s.sql(fmt.Sprintf("insert into {schema}.anchor_migrations (version, name) values (%d, '%s');\n", m.version, m.name)))
	}
	return b.String()
}
