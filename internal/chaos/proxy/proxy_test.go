//go:build unix

package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/anchor-go/anchor/internal/testdb"
)

// behind is a connection to a database through a proxy, and one beside it.
func behind(t *testing.T) (p *Proxy, conn, direct *pgx.Conn) {
	t.Helper()
	url := testdb.New(t)
	direct, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close(context.Background()) })
	config := direct.Config()
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	if p, err = Start(network, address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	conn, err = pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s", config.User, p.Port(), config.Database))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), "create table rows (n int)"); err != nil {
		t.Fatal(err)
	}
	return p, conn, direct
}

func count(t *testing.T, conn *pgx.Conn) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "select count(*) from rows").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestCuts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		act  Act
		want int // rows that are there
	}{
		"before": {CutBefore, 0},
		"after":  {CutAfter, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, args := range [][]any{{1}, {pgx.QueryExecModeSimpleProtocol, 1}} {
				p, conn, direct := behind(t)
				if err := conn.Ping(t.Context()); err != nil {
					t.Fatal(err)
				}
				fired := p.Arm(Rule{Statement: "insert into rows", Act: test.act})
				if _, err := conn.Exec(t.Context(), "insert into rows values ($1)", args...); err == nil {
					t.Error("the insert was answered")
				}
				select {
				case <-fired:
				default:
					t.Error("the rule has not acted")
				}
				if n := count(t, direct); n != test.want {
					t.Errorf("%d rows, want %d", n, test.want)
				}
			}
		})
	}
}

func TestOtherStatementsPass(t *testing.T) {
	t.Parallel()
	p, conn, _ := behind(t)
	p.Arm(Rule{Statement: "commit", Whole: true})
	for range 3 {
		if _, err := conn.Exec(t.Context(), "insert into rows values ($1)", 1); err != nil {
			t.Fatal(err)
		}
	}
	if !p.Disarm() {
		t.Error("the rule has acted")
	}
	if n := count(t, conn); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestStalledConnectionSaysNothing(t *testing.T) {
	t.Parallel()
	p, conn, _ := behind(t)
	if n := p.StallAll(); n != 1 {
		t.Errorf("%d connections were stalled, want 1", n)
	}
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	select {
	case err := <-answered:
		t.Errorf("a stalled connection answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	p.CutStalled()
	if err := <-answered; err == nil {
		t.Error("a connection that was cut answered")
	}
}
