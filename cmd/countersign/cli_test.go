package main

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/storage/storagetest"
)

// TestMain lets the test binary be the command itself, when it is told to.
func TestMain(m *testing.M) {
	if os.Getenv("COUNTERSIGN_TEST_MAIN") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// operator runs commands as an operator does: another process, with its settings in the environment.
type operator struct {
	dir string
	env []string
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	return &operator{t.TempDir(), append(os.Environ(), "COUNTERSIGN_TEST_MAIN=1", "DATABASE_URL="+storagetest.Empty(t),
		"COUNTERSIGN_MASTER_KEY="+base64.StdEncoding.EncodeToString(make([]byte, 32)))}
}

// run returns what the command printed; it fails the test unless the command ends as wanted.
func (o *operator) run(t *testing.T, wantOK bool, input string, args ...string) string {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env, c.Dir, c.Stdin = o.env, o.dir, strings.NewReader(input)
	out, err := c.CombinedOutput()
	if (err == nil) != wantOK {
		t.Fatalf("countersign %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (o *operator) says(t *testing.T, wantOK bool, want, input string, args ...string) {
	t.Helper()
	if out := o.run(t, wantOK, input, args...); !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("countersign %s says %q, not %q", strings.Join(args, " "), out, want)
	}
}

func TestCLI_MigratesRegistersAndRotates(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.says(t, true, `missing`, "", "migrate", "status")
	o.says(t, true, `schema is at version [0-9]+`, "", "migrate")
	o.says(t, true, `applied 20`, "", "migrate", "status")

	app := "client_id: acorn\nclient_name: Acorn\nprofile: openid\nredirect_uris: [https://app.example/cb]\ntoken_endpoint_auth_method: client_secret_basic\n"
	o.says(t, true, `registered acorn\nclient_secret [A-Z2-7]{52}\n`, app, "client", "create", "-")
	o.says(t, false, `there is a client "acorn" already`, app, "client", "create", "-")
	o.says(t, true, `acorn +openid +client_secret_basic +Acorn +active`, "", "client", "list")
	o.says(t, true, `"client_name": "Acorn"`, "", "client", "show", "acorn")
	o.says(t, true, `^$`, "", "client", "disable", "acorn")
	o.says(t, true, `acorn .* disabled 20`, "", "client", "list")
	o.says(t, true, `^$`, "", "client", "enable", "acorn")
	o.says(t, false, `there is no client "birch"`, "", "client", "show", "birch")
	o.says(t, false, `there is no client "birch"`, "", "client", "disable", "birch")

	// All that is wrong with a client is told at once.
	o.says(t, false, `(?s)token_endpoint_auth_method.*redirect_uris`, "client_id: x\nprofile: fapi2\nredirect_uris: [http://x]\ntoken_endpoint_auth_method: none\n", "client", "create", "-")
	o.says(t, false, `unknown field|not a member|"nmae"`, app+"nmae: x\n", "client", "create", "-")

	first := o.run(t, true, "", "key", "rotate", "--alg", "ES256")
	second := o.run(t, true, "", "key", "rotate", "--alg", "ES256")
	next := regexp.MustCompile(`ES256 +next +(\S+)`).FindStringSubmatch(first)
	if next == nil || !regexp.MustCompile(`ES256 +current +`+regexp.QuoteMeta(next[1])).MatchString(second) {
		t.Errorf("the key that was published as next does not sign after the rotation:\n%s%s", first, second)
	}
	o.says(t, true, `ES256 +retired`, "", "key", "list")
	o.says(t, true, `data key 2 seals`, "", "key", "rotate", "--data")
}

func TestCLI_SettingsFile(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	file := filepath.Join(o.dir, "countersign.yaml")
	if err := os.WriteFile(file, []byte("isuer: https://login.example\nlisten: \":1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.says(t, false, `"isuer" is not a setting`, "", "serve", "--config", file)
	o.says(t, false, `--issuer`, "", "serve")
	other := &operator{o.dir, append(o.env, "COUNTERSIGN_MASTER_KEY=short")}
	other.says(t, false, `not 32 bytes`, "", "key", "list")
	o.says(t, true, `^[A-Za-z0-9+/]{43}=\n$`, "", "key", "master")
	o.says(t, true, `countersign `, "", "version")
}

// A server with another master key must not start: it could not read a thing.
func TestCLI_RefusesAnotherMasterKey(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	o.run(t, true, "", "key", "rotate", "--alg", "ES256")
	key := make([]byte, 32)
	key[0] = 1
	other := &operator{o.dir, append(o.env, "COUNTERSIGN_MASTER_KEY="+base64.StdEncoding.EncodeToString(key))}
	other.says(t, false, `not the key that they were made with`, "", "key", "list")
}
