package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
)

// User is somebody who signed up.
type User struct {
	ID                  int32
	Email               string
	Welcomed, Suspended bool
}

// users is where the users are. Each method works within tx, so that the program is the same on both stores.
type users interface {
	// InTx commits what do does, or rolls it back when do returns an error.
	InTx(ctx context.Context, do func(tx pgx.Tx) error) error
	Add(ctx context.Context, tx pgx.Tx, email string) (User, error)
	Find(ctx context.Context, tx pgx.Tx, id int32) (User, error)
	MarkWelcomed(ctx context.Context, tx pgx.Tx, id int32) error
	Suspend(ctx context.Context, tx pgx.Tx, id int32) error
}

var errNoUser = errors.New("there is no such user")

const connectTimeout = 10 * time.Second

// open gives the tasks and the users one place: PostgreSQL, or this process when url is empty.
func open(ctx context.Context, url string) (store anchor.Store, u users, closeStore func(), err error) {
	if url == "" {
		memory := anchor.NewMemoryStore()
		return memory, &memoryUsers{store: memory, byID: map[int32]User{}}, func() {}, nil
	}
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("-database-url: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	// The lock is for programs that start together: "if not exists" alone does not keep them apart.
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "select pg_advisory_xact_lock(hashtext('quickstart_users'))")
		if err == nil {
			_, err = tx.Exec(ctx, createUsers)
		}
		return err
	})
	if err != nil {
		pool.Close()
		return nil, nil, nil, fmt.Errorf("-database-url: %w", err)
	}
	return anchor.NewPGStore(pool), pgUsers{pool}, pool.Close, nil
}

// pgUsers are the users in PostgreSQL.
type pgUsers struct{ pool *pgxpool.Pool }

const (
	createUsers = `create table if not exists quickstart_users (
  id integer generated always as identity primary key,
  email text not null,
  welcomed boolean not null default false,
  suspended boolean not null default false)`
	insertUser  = `insert into quickstart_users (email) values ($1) returning id`
	selectUser  = `select id, email, welcomed, suspended from quickstart_users where id = $1`
	welcomeUser = `update quickstart_users set welcomed = true where id = $1`
	suspendUser = `update quickstart_users set suspended = true where id = $1`
)

func (u pgUsers) InTx(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, u.pool, do)
}

func (u pgUsers) Add(ctx context.Context, tx pgx.Tx, email string) (User, error) {
	user := User{Email: email}
	err := tx.QueryRow(ctx, insertUser, email).Scan(&user.ID)
	return user, err
}

func (u pgUsers) Find(ctx context.Context, tx pgx.Tx, id int32) (User, error) {
	var user User
	err := tx.QueryRow(ctx, selectUser, id).Scan(&user.ID, &user.Email, &user.Welcomed, &user.Suspended)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errNoUser
	}
	return user, err
}

func (u pgUsers) MarkWelcomed(ctx context.Context, tx pgx.Tx, id int32) error {
	_, err := tx.Exec(ctx, welcomeUser, id)
	return err
}

func (u pgUsers) Suspend(ctx context.Context, tx pgx.Tx, id int32) error {
	_, err := tx.Exec(ctx, suspendUser, id)
	return err
}

// memoryUsers are the users in this process. The tx of the in-memory store carries tasks, no SQL: what a handler
// does to the map stays done even when its attempt fails, which only a database can undo.
type memoryUsers struct {
	store *anchor.MemoryStore

	transactions sync.Mutex // one InTx at a time

	mu     sync.Mutex
	byID   map[int32]User
	lastID int32
}

func (u *memoryUsers) InTx(ctx context.Context, do func(tx pgx.Tx) error) error {
	u.transactions.Lock()
	defer u.transactions.Unlock()
	last := u.lastID
	err := pgx.BeginFunc(ctx, u.store, do)
	if err != nil {
		u.forgetSince(last)
	}
	return err
}

func (u *memoryUsers) forgetSince(last int32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id := last + 1; id <= u.lastID; id++ {
		delete(u.byID, id)
	}
}

func (u *memoryUsers) Add(_ context.Context, _ pgx.Tx, email string) (User, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lastID++
	user := User{ID: u.lastID, Email: email}
	u.byID[user.ID] = user
	return user, nil
}

func (u *memoryUsers) Find(_ context.Context, _ pgx.Tx, id int32) (User, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	user, ok := u.byID[id]
	if !ok {
		return User{}, errNoUser
	}
	return user, nil
}

func (u *memoryUsers) MarkWelcomed(_ context.Context, _ pgx.Tx, id int32) error {
	return u.change(id, func(user *User) { user.Welcomed = true })
}

func (u *memoryUsers) Suspend(_ context.Context, _ pgx.Tx, id int32) error {
	return u.change(id, func(user *User) { user.Suspended = true })
}

func (u *memoryUsers) change(id int32, change func(user *User)) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	user, ok := u.byID[id]
	if !ok {
		return errNoUser
	}
	change(&user)
	u.byID[id] = user
	return nil
}
