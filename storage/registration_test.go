package storage_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
)

// What is changed is changed by who holds the token at that moment, whatever was found before.
func TestRegistration_TokenIsCheckedByTheStatement(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, err := storage.Open(ctx, storage.Options{DSN: storagetest.New(t), MasterKey: make([]byte, 32), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	hash := func(b byte) []byte { return append(make([]byte, 31), b) }
	first, second, third := hash(1), hash(2), hash(3)
	if _, err := db.Register(ctx, storage.NewRegistration{ClientID: "a", Metadata: []byte(`{}`), TokenHash: first, PerHour: 5}); err != nil {
		t.Fatal(err)
	}
	replace := func(presented, next []byte) error {
		return db.ReplaceRegistration(ctx, "a", presented, next, []byte(`{"n":1}`), nil, nil)
	}
	for _, step := range []struct {
		name string
		do   func() error
		want error
	}{
		{"a token that is none", func() error { return replace(second, third) }, storage.ErrNotFound},
		{"deleting with it", func() error { return db.Unregister(ctx, "a", second) }, storage.ErrNotFound},
		{"the token", func() error { return replace(first, second) }, nil},
		{"the token again: the answer was lost", func() error { return replace(first, third) }, nil},
		{"the one that was lost", func() error { return replace(second, first) }, storage.ErrNotFound},
		{"the new one", func() error { return replace(third, second) }, nil},
		{"the first, which has gone", func() error { return replace(first, second) }, storage.ErrNotFound},
		{"deleting with the first", func() error { return db.Unregister(ctx, "a", first) }, storage.ErrNotFound},
		{"a hash that is none", func() error { return db.Unregister(ctx, "a", nil) }, storage.ErrNotFound},
		{"disabled", func() error { return db.DisableClient(ctx, "a") }, nil},
		{"replacing what is disabled", func() error { return replace(third, first) }, storage.ErrNotFound},
		{"enabled", func() error { return db.EnableClient(ctx, "a") }, nil},
		{"deleting with the one that was refused", func() error { return db.Unregister(ctx, "a", first) }, storage.ErrNotFound},
		{"deleting with the newest", func() error { return db.Unregister(ctx, "a", second) }, nil},
		{"deleting again", func() error { return db.Unregister(ctx, "a", first) }, storage.ErrNotFound},
		{"what was deleted", func() error { _, err := db.FindRegistration(ctx, "a"); return err }, storage.ErrNotFound},
	} {
		if err := step.do(); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, err, step.want)
		}
	}
}

// Initial access tokens that nobody can use any more are removed.
func TestPurge_InitialAccessTokens(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db, err := storage.Open(ctx, storage.Options{DSN: storagetest.New(t), MasterKey: make([]byte, 32), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	for i, left := range []time.Duration{-time.Second, time.Hour} {
		if err := db.CreateInitialAccessToken(ctx, storage.InitialAccessToken{Hash: []byte{byte(i)}, Uses: 1, ExpiresAt: time.Now().Add(left)}); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := db.Purge(ctx); n != 1 || err != nil {
		t.Errorf("%d rows, %v", n, err)
	}
	if _, err := db.MayRegister(ctx, []byte{1}, 1); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

// The statement that registers a client is what holds an initial access token to its uses.
func TestRegister_InitialTokenIsSpentByTheStatement(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db, err := storage.Open(ctx, storage.Options{DSN: storagetest.New(t), MasterKey: make([]byte, 32), MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	good, old := []byte{1}, []byte{2}
	for hash, left := range map[*[]byte]time.Duration{&good: time.Hour, &old: -time.Second} {
		if err := db.CreateInitialAccessToken(ctx, storage.InitialAccessToken{Hash: *hash, Uses: 2, ExpiresAt: time.Now().Add(left)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		id      string
		initial []byte
		perHour int
		want    error
	}{
		{"a", old, 9, storage.ErrNotFound},
		{"a", []byte{3}, 9, storage.ErrNotFound},
		{"a", good, 0, storage.ErrTooManyRegistrations}, // spends nothing
		{"a", good, 9, nil},
		{"b", good, 9, nil},
		{"c", good, 9, storage.ErrNotFound},
		{"c", nil, 2, storage.ErrTooManyRegistrations},
		{"c", nil, 3, nil},
	} {
		_, err := db.Register(ctx, storage.NewRegistration{ClientID: step.id, Metadata: []byte(`{}`), TokenHash: []byte(step.id), InitialTokenHash: step.initial, PerHour: step.perHour})
		if !errors.Is(err, step.want) {
			t.Errorf("%s with %v, %d an hour: %v, want %v", step.id, step.initial, step.perHour, err, step.want)
		}
	}
}
