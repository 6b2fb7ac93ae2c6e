package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/fapi"
)

// RFC 7591 §3: an operator makes an initial access token; only its hash is stored.
func TestCLI_ClientToken(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	token := strings.TrimSpace(o.run(t, true, "", "client", "token", "--profile", "openid", "--uses", "3", "--expires", "1h"))
	o.says(t, false, `profile "x" is not one of`, "", "client", "token", "--profile", "x")
	o.says(t, false, `at least one use`, "", "client", "token", "--uses", "0")
	o.says(t, false, `at least one use`, "", "client", "token", "--expires=-1h")

	var dsn string
	for _, variable := range o.env {
		if value, ok := strings.CutPrefix(variable, "DATABASE_URL="); ok {
			dsn = value
		}
	}
	db, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(t.Context()))
	var profile string
	var uses int
	var left time.Duration
	err = db.QueryRow(t.Context(), "SELECT profile, uses_left, expires_at - now() FROM registration_tokens WHERE hash = $1", fapi.SecretHash(token)).Scan(&profile, &uses, &left)
	if err != nil || profile != "openid" || uses != 3 || left > time.Hour || left < 55*time.Minute {
		t.Errorf("stored %q, %d uses, %v: %v", profile, uses, left, err)
	}
}

func TestRegistrationSettings(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, key any) string {
		document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key}}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, document, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	public, private := write("public", key.Public()), write("private", key)
	for _, test := range []struct {
		name, issuer, want string
	}{
		{"an issuer", "https://directory.example=" + public, ""},
		{"without a file", "https://directory.example", "an issuer and a file"},
		{"without an issuer", "=" + public, "an issuer and a file"},
		{"a file that is not there", "https://directory.example=" + filepath.Join(dir, "none"), "no such file"},
		{"private keys", "https://directory.example=" + private, "must not know"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := registrationSettings{Registration: "statement", StatementIssuers: []string{test.issuer}, StatementAge: time.Hour}
			r, err := s.registration()
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v", err)
				}
				return
			}
			if issuer := r.Statements["https://directory.example"]; err != nil || issuer == nil || issuer.MaxAge != time.Hour {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}
