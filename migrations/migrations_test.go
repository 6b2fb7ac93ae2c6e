package migrations_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"golang.org/x/sync/errgroup"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/storage/storagetest"
)

var (
	first  = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE accounts (id int);\nSELECT pg_sleep(0.2);\n")}
	second = &fstest.MapFile{Data: []byte("-- +goose Up\nALTER TABLE accounts ADD COLUMN name text;\n")}
	broken = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE half (id int);\nCREATE TABLE wrong;\n")}
)

func TestUp_OurFiles(t *testing.T) {
	t.Parallel()
	dsn := storagetest.Empty(t)
	for range 2 { // the second time there is nothing to do
		if err := migrations.Up(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	}
	all, err := migrations.Status(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if last := all[len(all)-1]; last.Version != migrations.Latest() {
		t.Errorf("last is %d, Latest is %d", last.Version, migrations.Latest())
	}
	for i, m := range all {
		if m.Version != int64(i+1) {
			t.Errorf("%s: versions have no gaps, want %d", m.File, i+1)
		}
		if since := time.Since(m.AppliedAt); since < -time.Minute || since > time.Hour {
			t.Errorf("%s: applied at %v", m.File, m.AppliedAt)
		}
	}
}

func TestUp_StepByStep(t *testing.T) {
	t.Parallel()
	dsn := storagetest.Empty(t)
	old := fstest.MapFS{"00001_accounts.sql": first}
	next := fstest.MapFS{"00001_accounts.sql": first, "00002_names.sql": second}

	want := []migrations.Migration{{Version: 1, File: "00001_accounts.sql"}, {Version: 2, File: "00002_names.sql"}}
	got, err := migrations.StatusFrom(t.Context(), dsn, next)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	if n := count(t, dsn, "SELECT count(*) FROM pg_class WHERE relname = 'goose_db_version'"); n != 0 {
		t.Error("Status made a table")
	}

	if err := migrations.UpFrom(t.Context(), dsn, old); err != nil {
		t.Fatal(err)
	}
	if got, err = migrations.StatusFrom(t.Context(), dsn, next); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(migrations.Migration{}, "AppliedAt")); diff != "" {
		t.Errorf("between (-want +got):\n%s", diff)
	}
	if got[0].AppliedAt.IsZero() || !got[1].AppliedAt.IsZero() {
		t.Errorf("applied at %v and %v, want the first only", got[0].AppliedAt, got[1].AppliedAt)
	}

	if err := migrations.UpFrom(t.Context(), dsn, next); err != nil {
		t.Fatal(err)
	}
	// A replica of the old version restarts while the new one is rolled out.
	if err := migrations.UpFrom(t.Context(), dsn, old); err != nil {
		t.Errorf("the old version on a newer database: %v", err)
	}
}

func TestUp_ReplicasAtOnce(t *testing.T) {
	t.Parallel()
	dsn := storagetest.Empty(t)
	files := fstest.MapFS{"00001_accounts.sql": first, "00002_names.sql": second}
	var replicas errgroup.Group
	for range 5 {
		replicas.Go(func() error { return migrations.UpFrom(t.Context(), dsn, files) })
	}
	if err := replicas.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, dsn, "SELECT count(*) FROM goose_db_version WHERE version_id > 0"); n != 2 {
		t.Errorf("%d migrations were applied, want 2", n)
	}
}

// Engines without advisory locks take goose's table instead.
func TestUp_ReplicasAtOnceByTableLock(t *testing.T) {
	t.Parallel()
	dsn := storagetest.Empty(t)
	files := fstest.MapFS{"00001_accounts.sql": first, "00002_names.sql": second}
	var replicas errgroup.Group
	for range 5 {
		replicas.Go(func() error {
			db, err := sql.Open("pgx", dsn)
			if err != nil {
				return err
			}
			defer db.Close()
			locker, err := migrations.TableLock()
			if err != nil {
				return err
			}
			p, err := goose.NewProvider(goose.DialectPostgres, db, files, locker)
			if err != nil {
				return err
			}
			_, err = p.Up(t.Context())
			return err
		})
	}
	if err := replicas.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, dsn, "SELECT count(*) FROM goose_db_version WHERE version_id > 0"); n != 2 {
		t.Errorf("%d migrations were applied, want 2", n)
	}
}

func TestUp_AFileAppliesWhollyOrNotAtAll(t *testing.T) {
	t.Parallel()
	dsn := storagetest.Empty(t)
	err := migrations.UpFrom(t.Context(), dsn, fstest.MapFS{"00001_broken.sql": broken})
	if err == nil || !strings.Contains(err.Error(), "00001_broken.sql") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if n := count(t, dsn, "SELECT count(*) FROM pg_class WHERE relname = 'half'"); n != 0 {
		t.Error("half a migration stayed")
	}
	mended := fstest.MapFS{"00001_broken.sql": first}
	if err := migrations.UpFrom(t.Context(), dsn, mended); err != nil {
		t.Errorf("after mending: %v", err)
	}
}

func TestDigest_FollowsContent(t *testing.T) {
	t.Parallel()
	one := migrations.DigestFrom(fstest.MapFS{"00001_a.sql": first})
	same := migrations.DigestFrom(fstest.MapFS{"00001_a.sql": first})
	other := migrations.DigestFrom(fstest.MapFS{"00001_a.sql": second})
	if one != same || one == other {
		t.Errorf("digests %s, %s, %s: want the first two alike", one, same, other)
	}
	if v := migrations.LatestFrom(fstest.MapFS{"00001_a.sql": first, "00012_b.sql": second}); v != 12 {
		t.Errorf("Latest = %d, want 12", v)
	}
}

func count(t *testing.T, dsn, query string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	var n int
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
