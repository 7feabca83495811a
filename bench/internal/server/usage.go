package server

import (
	"context"
	"os"
	"strconv"
	"strings"
)

// Usage is what the server has spent up to a moment.
type Usage struct {
	LSN        string
	Statements float64 // of the database, nested ones not counted; 0 without pg_stat_statements
	CPU        float64 // seconds, of all the server's processes; 0 where /proc is missing
}

// Spent is what the server spent between two moments.
type Spent struct {
	WAL          float64 // bytes
	Statements   float64
	CPU          float64 // seconds
	IndexEntries float64 // entries written to B-trees; 0 where pg_walinspect is missing
	FullPages    float64 // bytes of full page images, a part of WAL
}

// Usage reads the counters.
func (d *Database) Usage(ctx context.Context) (Usage, error) {
	var u Usage
	if err := d.server.admin.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&u.LSN); err != nil {
		return u, err
	}
	if d.server.statements {
		err := d.server.admin.QueryRow(ctx, `select coalesce(sum(s.calls), 0)::float8 from pg_stat_statements s
			join pg_database d on d.oid = s.dbid where d.datname = $1 and s.toplevel`, d.Name).Scan(&u.Statements)
		if err != nil {
			return u, err
		}
	}
	u.CPU = d.server.cpu(ctx)
	return u, nil
}

// Since is what was spent since an earlier Usage. index asks for IndexEntries, which reads all of the WAL.
func (d *Database) Since(ctx context.Context, from Usage, index bool) (Spent, error) {
	to, err := d.Usage(ctx)
	if err != nil {
		return Spent{}, err
	}
	s := Spent{Statements: to.Statements - from.Statements, CPU: to.CPU - from.CPU}
	if err := d.server.admin.QueryRow(ctx, "select ($1::pg_lsn - $2::pg_lsn)::float8", to.LSN, from.LSN).Scan(&s.WAL); err != nil {
		return s, err
	}
	if index {
		s.IndexEntries, s.FullPages = d.server.walRecords(ctx, from.LSN, to.LSN)
	}
	return s, nil
}

const (
	flushWAL = `select pg_switch_wal()`
	// countRecords knows the records that add an entry to a B-tree.
	countRecords = `select
  coalesce(sum(count) filter (where "resource_manager/record_type" like 'Btree/INSERT_LEAF' or "resource_manager/record_type" like 'Btree/SPLIT_%'
    or "resource_manager/record_type" like 'Btree/INSERT_POST'), 0)::float8,
  coalesce(sum(fpi_size), 0)::float8
from pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true)`
)

// walRecords counts in the WAL itself, where the extension for that is there.
func (p *Postgres) walRecords(ctx context.Context, from, to string) (entries, fullPages float64) {
	if _, err := p.admin.Exec(ctx, "create extension if not exists pg_walinspect"); err != nil {
		return 0, 0
	}
	if _, err := p.admin.Exec(ctx, flushWAL); err != nil {
		return 0, 0
	}
	if err := p.admin.QueryRow(ctx, countRecords, from, to).Scan(&entries, &fullPages); err != nil {
		return 0, 0
	}
	return entries, fullPages
}

// cpu is the time of all the server's processes that live, and of those that its postmaster has buried.
func (p *Postgres) cpu(ctx context.Context) float64 {
	var backend int
	if err := p.admin.QueryRow(ctx, "select pg_backend_pid()").Scan(&backend); err != nil {
		return 0
	}
	own := readStat(backend)
	if own == nil {
		return 0
	}
	postmaster := own.parent
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	var ticks int64
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat := readStat(pid)
		switch {
		case stat == nil:
		case pid == postmaster:
			ticks += stat.own + stat.buried
		case stat.parent == postmaster:
			ticks += stat.own
		}
	}
	const ticksPerSecond = 100 // USER_HZ
	return float64(ticks) / ticksPerSecond
}

// procStat is what /proc knows of a process, in ticks.
type procStat struct {
	parent      int
	own, buried int64
}

func readStat(pid int) *procStat {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil
	}
	// The program's name is in parentheses and may hold anything.
	end := strings.LastIndexByte(string(raw), ')')
	if end < 0 {
		return nil
	}
	fields := strings.Fields(string(raw[end+1:]))
	if len(fields) < 15 {
		return nil
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i], 10, 64); return n }
	return &procStat{parent: int(number(1)), own: number(11) + number(12), buried: number(13) + number(14)}
}

// TopStatements are the costliest of a database as text, for those who tune.
func (d *Database) TopStatements(ctx context.Context, limit int) string {
	if !d.server.statements {
		return "no pg_stat_statements\n"
	}
	rows, err := d.server.admin.Query(ctx, `select s.calls, s.rows, s.total_exec_time, s.wal_bytes::float8, s.shared_blks_hit, s.shared_blks_read, s.toplevel,
		regexp_replace(left(s.query, 140), '\s+', ' ', 'g')
		from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1 order by s.total_exec_time desc limit $2`, d.Name, limit)
	if err != nil {
		return err.Error() + "\n"
	}
	defer rows.Close()
	var b strings.Builder
	b.WriteString("     calls      rows         ms     WAL MB       hit      read top query\n")
	for rows.Next() {
		var calls, n, hit, read int64
		var ms, wal float64
		var top bool
		var query string
		if err := rows.Scan(&calls, &n, &ms, &wal, &hit, &read, &top, &query); err != nil {
			return err.Error() + "\n"
		}
		mark := " "
		if top {
			mark = "*"
		}
		for _, column := range []string{
			pad(strconv.FormatInt(calls, 10), 10), pad(strconv.FormatInt(n, 10), 10), pad(strconv.FormatFloat(ms, 'f', 1, 64), 11),
			pad(strconv.FormatFloat(wal/1e6, 'f', 1, 64), 11), pad(strconv.FormatInt(hit, 10), 10), pad(strconv.FormatInt(read, 10), 10), "  " + mark + "  ", query,
		} {
			b.WriteString(column)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func pad(s string, width int) string { return strings.Repeat(" ", max(0, width-len(s))) + s }
