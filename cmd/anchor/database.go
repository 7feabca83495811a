package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

const connectTimeout = 10 * time.Second

// database is a client without a task: it looks and manages.
type database struct {
	pool   *pgxpool.Pool
	store  *anchor.PGStore
	client *anchor.Client
	name   string // for people
}

// connect answers an unreachableError when there is no connection to be had.
func (a *app) connect(ctx context.Context) (*database, error) {
	given, from := a.databaseURL, "--database-url"
	if given == "" {
		given, from = os.Getenv("DATABASE_URL"), "DATABASE_URL"
	}
	if given == "" {
		return nil, usageError{errors.New("no database is given: set DATABASE_URL, for example to postgres://user:password@host:5432/database")}
	}
	config, err := pgxpool.ParseConfig(given)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s is not understood: %s", from, whyNotParsed(given, err))}
	}
	if config.ConnConfig.ConnectTimeout == 0 || config.ConnConfig.ConnectTimeout > connectTimeout {
		config.ConnConfig.ConnectTimeout = connectTimeout
	}
	if _, named := config.ConnConfig.RuntimeParams["application_name"]; !named {
		config.ConnConfig.RuntimeParams["application_name"] = "anchor command"
	}
	config.MinConns, config.MinIdleConns, config.MaxConns = 0, 0, 2
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	db := &database{
		pool: pool, store: anchor.NewPGStore(pool, anchor.WithSchema(a.schema)),
		name: fmt.Sprintf("schema %s of database %s on %s", quote(a.schema), quote(config.ConnConfig.Database), config.ConnConfig.Host),
	}
	if db.client, err = anchor.New(db.store, anchor.WithLogger(slog.New(slog.DiscardHandler))); err != nil {
		pool.Close()
		return nil, a.badSchema(err)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		pool.Close()
		return nil, unreachableError{err}
	}
	conn.Release()
	return db, nil
}

// badSchema is a mistake of --schema, the only option of a store.
func (a *app) badSchema(err error) error {
	text := bareText(err)
	if _, why, ok := strings.Cut(text, "): "); ok {
		text = why
	}
	return usageError{fmt.Errorf("--schema %s: %s", quote(a.schema), text)}
}

// whyNotParsed says what is wrong with the address of a database without repeating any of it: what cannot be parsed
// cannot be told apart from its password.
func whyNotParsed(given string, err error) string {
	const hint = "it should look like postgres://user:password@host:5432/database, with special characters of the password percent-encoded (/ is %2F, @ is %40)"
	parsed, notURL := url.Parse(given)
	if notURL != nil || parsed.Scheme == "" && !strings.Contains(given, "=") || strings.Contains(given, "://") && !strings.HasPrefix(parsed.Scheme, "postgres") {
		return hint
	}
	cause := errors.Unwrap(err)
	if cause == nil || looksSecret(cause.Error()) || quotesFrom(cause.Error(), given) {
		return hint
	}
	return oneLine(cause.Error())
}

// quotesFrom tells whether text may show a password of given.
func quotesFrom(text, given string) bool {
	if parsed, err := url.Parse(given); err == nil && parsed.User != nil {
		if password, _ := parsed.User.Password(); password != "" && strings.Contains(text, password) {
			return true
		}
	}
	return looksSecret(given) && !strings.Contains(given, "://") || strings.Contains(text, given)
}
