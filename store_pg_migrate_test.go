package anchor_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/anchor-go/anchor"
	"github.com/anchor-go/anchor/internal/testdb"
)

// catalog describes every table, column, index, constraint, function and setting of a schema, a line each.
func catalog(t *testing.T, pool *pgxpool.Pool, schema string) []string {
	t.Helper()
	lines := queryOne[[]string](t, pool, `select array_agg(replace(line, $1 || '.', '') order by line collate "C") from (
		select format('%s %s %s %s', c.relkind, c.relname, c.reloptions, pg_get_expr(c.relpartbound, c.oid)) as line
			from pg_class c where c.relnamespace = $1::regnamespace
		union all
		select format('column %s.%s %s %s %s %s %s', c.relname, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod),
				a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid))
			from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
			where c.relnamespace = $1::regnamespace and a.attnum > 0
		union all
		select 'index ' || pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid where c.relnamespace = $1::regnamespace
		union all
		select format('constraint %s %s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid))
			from pg_constraint k where k.connamespace = $1::regnamespace
		union all
		select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = $1::regnamespace
		union all
		select 'trigger ' || pg_get_triggerdef(g.oid) from pg_trigger g join pg_class c on c.oid = g.tgrelid where not g.tgisinternal and c.relnamespace = $1::regnamespace) x`, schema)
	if len(lines) < 50 {
		t.Fatalf("schema %s has %d objects only", schema, len(lines))
	}
	return lines
}

func TestMigrateManyAtOnce(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 10 {
		pool := openPool(t, url)
		for _, opts := range [][]anchor.PGOption{nil, {anchor.WithSchema("jobs")}} {
			store := anchor.NewPGStore(pool, opts...)
			wg.Go(func() {
				<-start
				if err := store.Migrate(t.Context()); err != nil {
					t.Errorf("Migrate %v: %v", opts, err)
				}
			})
		}
	}
	close(start)
	wg.Wait()
	pool := openPool(t, url)
	for _, schema := range []string{"public", "jobs"} {
		versions := queryOne[string](t, pool, "select string_agg(version::text, ' ' order by version) from "+schema+".anchor_migrations")
		if !strings.HasPrefix(versions, "1") || strings.Count(versions, "1") != 1 {
			t.Errorf("schema %s is at versions %s", schema, versions)
		}
	}
}

const migrateURLVariable = "ANCHOR_TEST_MIGRATE_URL"

// TestMigrateProcess is what TestMigrateInProcesses starts; otherwise it has nothing to do.
func TestMigrateProcess(t *testing.T) {
	url := os.Getenv(migrateURLVariable)
	if url == "" {
		return
	}
	if err := anchor.NewPGStore(openPool(t, url)).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateInProcesses(t *testing.T) {
	t.Parallel()
	url := testdb.New(t)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMigrateProcess$", "-test.count=1")
			cmd.Env = append(os.Environ(), migrateURLVariable+"="+url)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	client, task := newLetters(t, anchor.NewPGStore(openPool(t, url)))
	mustRun(t, client, task, letter{})
}

func TestMigrateTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	id := mustRun(t, client, task, letter{})
	before := catalog(t, pool, "public")
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, catalog(t, pool, "public")); diff != "" {
		t.Errorf("schema (-before +after):\n%s", diff)
	}
	wantTasks(t, client, anchor.TaskQuery{}, id)
}

// A role that may use the tables, but create none, can migrate what is migrated.
func TestMigrateNeedsNoRightsWhenThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	_, pool := postgresStore(t)
	config := pool.Config()
	config.ConnConfig.RuntimeParams["role"] = "pg_read_all_data"
	reader, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	if err := anchor.NewPGStore(reader).Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantText(t, anchor.NewPGStore(reader, anchor.WithSchema("jobs")).Migrate(t.Context()), "migrate", "permission denied")
}

// What lives in one schema is not seen in another of the same database, and both look the same.
func TestMigrateWithSchema(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	other := anchor.NewPGStore(pool, anchor.WithSchema("jobs_2"))
	if err := other.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(catalog(t, pool, "public"), catalog(t, pool, "jobs_2")); diff != "" {
		t.Errorf("schemas (-public +jobs_2):\n%s", diff)
	}

	client, task := newLetters(t, store)
	second := newClient(t, other, task)
	id := mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t"))
	wantTasks(t, second, anchor.TaskQuery{})
	secondID := mustRun(t, second, task, letter{}, anchor.WithUniqueTag("t"))
	wantTasks(t, second, anchor.TaskQuery{}, secondID)
	wantTasks(t, client, anchor.TaskQuery{}, id)
}

func TestMigrationSQLGivesTheSameSchema(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"public", "jobs"} {
		t.Run(schema, func(t *testing.T) {
			t.Parallel()
			_, migrated := postgresStore(t, anchor.WithSchema(schema))
			byHand := openPool(t, testdb.New(t))
			store := anchor.NewPGStore(byHand, anchor.WithSchema(schema))
			mustExec(t, byHand, "begin;\n"+store.MigrationSQL()+"\ncommit")
			if diff := cmp.Diff(catalog(t, migrated, schema), catalog(t, byHand, schema)); diff != "" {
				t.Errorf("schema (-Migrate +MigrationSQL):\n%s", diff)
			}
			const versions = "select string_agg(version || ' ' || name, ', ' order by version) from "
			if diff := cmp.Diff(queryOne[string](t, migrated, versions+schema+".anchor_migrations"),
				queryOne[string](t, byHand, versions+schema+".anchor_migrations")); diff != "" {
				t.Errorf("versions (-Migrate +MigrationSQL):\n%s", diff)
			}

			if err := store.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate afterwards: %v", err)
			}
			client, task := newLetters(t, store)
			mustRun(t, client, task, letter{}, anchor.WithUniqueTag("t"))
		})
	}
}

func TestMigrateRefusesANewerSchema(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	mustExec(t, pool, "insert into anchor_migrations (version, name) values (1000, 'of the future')")
	wantText(t, store.Migrate(t.Context()), `the schema "public" is at version 1000`, "upgrade the library")
	err := newClient(t, store, anchor.Define("Obey", obeyLetter)).Work(t.Context())
	wantIs(t, err, anchor.ErrNotMigrated)
	wantText(t, err, "version 1000")
	wantIs(t, store.CheckMigrated(t.Context()), anchor.ErrNotMigrated)
}

func TestCheckMigrated(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	if err := store.CheckMigrated(t.Context()); err != nil {
		t.Error(err)
	}
	mustExec(t, pool, "delete from anchor_migrations where version > 1")
	err := store.CheckMigrated(t.Context())
	wantIs(t, err, anchor.ErrNotMigrated)
	wantText(t, err, "is at version 1,", "call Migrate")
	if err := anchor.NewPGStore(nil).CheckMigrated(t.Context()); err == nil {
		t.Error("no error although there is no pool")
	}
}

func TestEveryCallOnAnEmptyDatabaseSaysNotMigrated(t *testing.T) {
	t.Parallel()
	pool := openPool(t, testdb.New(t))
	task := anchor.Define("Obey", obeyLetter)
	for _, opts := range [][]anchor.PGOption{nil, {anchor.WithSchema("jobs")}} {
		store := anchor.NewPGStore(pool, opts...)
		client := newClient(t, store, task)
		ctx := t.Context()
		for name, call := range map[string]func() error{
			"Run":         func() error { _, err := task.Run(ctx, client, &letter{}); return err },
			"Run, tagged": func() error { _, err := task.Run(ctx, client, &letter{}, anchor.WithUniqueTag("t")); return err },
			"RunMany":     func() error { _, err := task.RunMany(ctx, client, []*letter{{}, {}}); return err },
			"Task":        func() error { _, err := client.Task(ctx, 1); return err },
			"Tasks":       func() error { _, err := client.Tasks(ctx, anchor.TaskQuery{}); return err },
			"Wait":        func() error { _, err := client.Wait(ctx, 1); return err },
			"Stats":       func() error { _, err := client.Stats(ctx); return err },
			"Explain":     func() error { _, err := client.Explain(ctx, 1); return err },
			"Workers":     func() error { _, err := client.Workers(ctx); return err },
			"Check":       func() error { return store.CheckMigrated(ctx) },
			"Cancel":      func() error { return client.Cancel(ctx, 1) },
			"Retry":       func() error { return client.Retry(ctx, 1) },
			"ReleaseTag":  func() error { return client.ReleaseTag(ctx, "t") },
			"PauseQueue":  func() error { return client.PauseQueue(ctx, "q") },
			"ResumeQueue": func() error { return client.ResumeQueue(ctx, "q") },
			"Work":        func() error { return client.Work(ctx) },
		} {
			err := call()
			if !errors.Is(err, anchor.ErrNotMigrated) || errors.Is(err, anchor.ErrOutcomeUnknown) {
				t.Errorf("%s with %v: error %v", name, opts, err)
			}
		}
	}
}

// A schema of an older version is named as such by whatever needs what it lacks.
func TestMissingColumnSaysNotMigrated(t *testing.T) {
	t.Parallel()
	store, pool := postgresStore(t)
	client, task := newLetters(t, store)
	mustExec(t, pool, "alter table anchor_tasks rename column attributes to other")
	_, err := task.Run(t.Context(), client, &letter{})
	wantIs(t, err, anchor.ErrNotMigrated)
	_, err = client.Tasks(t.Context(), anchor.TaskQuery{})
	wantIs(t, err, anchor.ErrNotMigrated)
}

// The methods of a store whose options are wrong answer why, and touch no database.
func TestStoreWithBadOptionsAnswersWhy(t *testing.T) {
	t.Parallel()
	for _, store := range []*anchor.PGStore{nil, anchor.NewPGStore(nil), anchor.NewPGStore(nil, anchor.WithSchema("a b"))} {
		if err := store.Migrate(t.Context()); err == nil || !strings.Contains(err.Error(), "anchor: ") {
			t.Errorf("error %v", err)
		}
	}
	if sql := anchor.NewPGStore(nil, anchor.WithSchema(`x"; drop`)).MigrationSQL(); strings.Contains(sql, `"; drop`) {
		t.Error("a bad name of a schema is in the script")
	}
}
