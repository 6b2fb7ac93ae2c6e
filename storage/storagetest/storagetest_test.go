package storagetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/migrations"
	"github.com/countersign/countersign/storage/storagetest"
)

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func TestNew_HasTheSchema(t *testing.T) {
	t.Parallel()
	all, err := migrations.Status(t.Context(), storagetest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.AppliedAt.IsZero() {
			t.Errorf("%s is not applied", m.File)
		}
	}
}

func TestNew_ParallelClones(t *testing.T) {
	t.Parallel()
	began := time.Now()
	t.Run("clones", func(t *testing.T) {
		for i := range 20 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				conn := connect(t, storagetest.New(t))
				t.Logf("cloned in %s", time.Since(began).Round(time.Millisecond))
				// The same name in all: it would clash if two tests shared a database.
				if _, err := conn.Exec(t.Context(), "CREATE TABLE mine (id int)"); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Logf("20 clones made and dropped in %s", time.Since(began).Round(time.Millisecond))
}

func TestNew_DroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	var dsn string
	t.Run("inner", func(t *testing.T) {
		dsn = storagetest.New(t)
		// Not closed: a test that forgets its connection must not keep the database alive.
		if _, err := pgx.Connect(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	})
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		conn.Close(t.Context())
		t.Error("the database outlives its test")
	}
}
