package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// givenPorts are those that a test of this process has.
var givenPorts sync.Map

// newDemo is the command on ports that nobody uses. They lie below those that the kernel gives to connections, of which
// the tests beside this one make many.
func newDemo(t *testing.T) *demoCommand {
	t.Helper()
	c := &demoCommand{Once: true, Address: "127.0.0.1"}
	for _, port := range []*int{&c.Port, &c.MTLSPort, &c.BankPort, &c.AppPort} {
		for *port == 0 {
			candidate := 10_000 + rand.IntN(20_000)
			if _, given := givenPorts.LoadOrStore(candidate, true); given {
				continue
			}
			l, err := net.Listen("tcp", (&demo{demoCommand: *c}).address(candidate))
			if err != nil {
				continue
			}
			defer l.Close() // only now, so that they differ
			*port = candidate
		}
	}
	return c
}

// The whole story is an assertion of its own: run fails at the first step that does not go as its rule demands.
func TestDemo_WholeStory(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts Postgres, server, bank and app")
	}
	t.Parallel()
	var out bytes.Buffer
	if err := newDemo(t).run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	steps := 0
	for _, c := range chapters {
		steps += len(c.steps)
		for _, s := range c.steps {
			if !strings.Contains(out.String(), s.title) {
				t.Errorf("the transcript has no step %q", s.title)
			}
		}
	}
	if marks := strings.Count(out.String(), "✓"); marks < steps {
		t.Errorf("%d steps, but only %d of them say what they show", steps, marks)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > columns {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours without a terminal")
	}
}

func TestDemo_KeepsAFolder(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts Postgres, server, bank and app, twice")
	}
	t.Parallel()
	dir := filepath.Join(openDir(t), "kept")
	var ca []byte
	for round := range 2 {
		c := newDemo(t)
		c.Dir = dir
		var out bytes.Buffer
		if err := c.run(t.Context(), &out); err != nil {
			t.Fatalf("round %d: %v\n%s", round+1, err, out.String())
		}
		if again := strings.Contains(out.String(), "in an earlier run"); again != (round == 1) {
			t.Errorf("round %d: enrolled in an earlier run: %v", round+1, again)
		}
		content, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		if ca != nil && !bytes.Equal(ca, content) {
			t.Error("the CA is another one: browsers would have to be told again")
		}
		ca = content
	}
}

// openDir is a folder that the account can reach that Postgres runs as when we are root; t.TempDir is closed to it.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "countersign-demo-test-*")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// It stays up until it is told to end, and leaves nothing behind.
func TestDemo_StaysAndCleansUp(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts Postgres, server, bank and app")
	}
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := newDemo(t)
	c.Once = false
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- c.run(ctx, w)
		close(ended)
		w.Close()
	}()
	defer func() { // also when the test has given up: nothing may be left behind
		stop()
		r.Close()
		<-ended
	}()
	var out bytes.Buffer
	buffer := make([]byte, 4096)
	for !strings.Contains(out.String(), "Ctrl-C ends everything") {
		n, err := r.Read(buffer)
		out.Write(buffer[:n])
		if err != nil {
			t.Fatalf("it did not stay: %v\n%s", <-ended, out.String())
		}
	}
	_, after, _ := strings.Cut(out.String(), "curl --cacert ")
	ca, _, _ := strings.Cut(after, " ")
	if _, err := os.Stat(ca); err != nil {
		t.Errorf("the CA's file: %v", err)
	}
	roots, err := loadPool([]string{ca})
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBrowser(newHTTP(roots, nil), "")
	if err != nil {
		t.Fatal(err)
	}
	for path, id := range map[string]string{local(c.AppPort) + "/": "app_home", local(c.AppPort) + "/phone": "app_phone", local(c.Port) + "/consents": "login_page"} {
		page, err := b.open(ctx, path)
		if err == nil {
			err = page.is(id)
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	stop()
	go io.Copy(io.Discard, r)
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	if _, err := os.Stat(filepath.Dir(ca)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is still there: %v", err)
	}
	for _, port := range []int{c.Port, c.MTLSPort, c.BankPort, c.AppPort} {
		if conn, err := net.DialTimeout("tcp", (&demo{demoCommand: *c}).address(port), time.Second); err == nil {
			conn.Close()
			t.Errorf("port %d still answers", port)
		}
	}
}

// As with `countersign demo | head`.
func TestDemo_EndsWhenNobodyReads(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: starts Postgres, server, bank and app")
	}
	t.Parallel()
	c := newDemo(t)
	c.Once = false
	r, w := io.Pipe()
	go func() {
		io.CopyN(io.Discard, r, 3000) // into the story
		r.Close()
	}()
	if err := c.run(t.Context(), w); err != nil {
		t.Error(err)
	}
}

func TestDemo_NamesThePortThatIsTaken(t *testing.T) {
	t.Parallel()
	c := newDemo(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.BankPort = l.Addr().(*net.TCPAddr).Port
	err = c.run(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "is taken") || !strings.Contains(err.Error(), "--bank-port") {
		t.Errorf("error %v", err)
	}
}

func TestExchange_SaysWhatWasExpected(t *testing.T) {
	t.Parallel()
	ex := &exchange{status: 200, body: []byte(`{"a":{"b":"x"},"n":3,"list":["p","q"]}`)}
	if err := ex.want(401, "invalid_token"); err == nil || err.Error() != "expected 401 Unauthorized invalid_token, got 200 OK" {
		t.Errorf("error %v", err)
	}
	if err := ex.wantValues("a.b", "x", "n", "3", "list", `["p","q"]`, "a", "*"); err != nil {
		t.Error(err)
	}
	if err := ex.wantValues("a.b", "y", "missing", "*"); err == nil || strings.Count(err.Error(), "expected") != 2 {
		t.Errorf("error %v", err)
	}
}

func TestNarrator_Wraps(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                    {""},
		"one two":             {"one two"},
		"one two three four":  {"one two", "three four"},
		"abcdefghijklmno pq":  {"abcdefghij", "klmno pq"},
		"über älter öde müde": {"über älter", "öde müde"},
	} {
		if diff := cmp.Diff(want, wrapped(text, 10)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

func TestNarrator_CutsSecrets(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"client_assertion", "eyJhbGciOiJFUzI1NiJ9.e30.sig", "eyJhbGciOi…"},
		{"scope", "openid accounts", "openid accounts"},
		{"request_uri", "urn:ietf:params:oauth:request_uri:abcdefghijklmnop", "urn:ietf:params:oauth:request_uri:abcdefghij…"},
	} {
		if got := readable(c[0], c[1]); got != c[2] {
			t.Errorf("%s: %q", c[0], got)
		}
	}
	if got := secret("DPoP eyJhbGciOiJFUzI1NiJ9"); got != "DPoP eyJhbGciOi…" {
		t.Errorf("header: %q", got)
	}
}

func TestSampleApp_WritesAmounts(t *testing.T) {
	t.Parallel()
	for amount, want := range map[string]string{"0.05": "0.05", "123.00": "123.00", "1843.27": "1,843.27", "1234567.00": "1,234,567.00"} {
		if got := signed("Credit", amount); got != want {
			t.Errorf("%s: %s, not %s", amount, got, want)
		}
	}
	if got := signed("Debit", "920.00"); got != "−920.00" {
		t.Error(got)
	}
}

func TestCustomer_ReadsAccounts(t *testing.T) {
	t.Parallel()
	var a account
	if err := a.UnmarshalText([]byte("1001:Everyday:GB29 1234:eur")); err != nil || a != (account{"1001", "Everyday", "GB29 1234", "EUR"}) {
		t.Errorf("%+v, %v", a, err)
	}
	for _, text := range []string{"", "1001", "1001:Everyday:1234", ":Everyday:1234:EUR", "1001::1234:EUR", "1:2:3:EURO", "1:2:3:EUR:5"} {
		if err := a.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestCustomer_ReadsPassword(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from a file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ file, stdin, want, prompt string }{
		{"", "typed in\n", "typed in", "Password for alice"},
		{"", "no newline", "no newline", "Password"},
		{"-", "piped\n", "piped", ""},
		{file, "", "from a file", ""},
		{"", "\n", "", "Password"},
		{file + "-missing", "", "", ""},
	} {
		var prompt bytes.Buffer
		got, err := (&customerCreate{Username: "alice", PasswordFile: c.file}).password(strings.NewReader(c.stdin), &prompt)
		if got != c.want || (err == nil) != (c.want != "") || !strings.HasPrefix(prompt.String(), c.prompt) || c.prompt == "" && prompt.Len() > 0 {
			t.Errorf("%+v: %q, %v, prompt %q", c, got, err, prompt.String())
		}
	}
}

func TestCustomer_Masks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"Alice Penrose": "A••• P•••", "alice": "a•••", "": "-", "Ünal": "Ü•••"} {
		if got := masked(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestPhone_ShowsNoCodeTwice(t *testing.T) {
	t.Parallel()
	p := &phone{}
	now := time.Now()
	first, err := p.first("JBSWY3DPEHPK3PXP", now)
	if err != nil {
		t.Fatal(err)
	}
	screen, left := p.screen(now)
	if left <= 0 || left > 2*period {
		t.Errorf("good for %v", left)
	}
	second, err := p.use(t.Context())
	if err != nil || second == first || screen != second[:3]+" "+second[3:] {
		t.Errorf("first %s, then the screen showed %s and %s was typed, %v", first, screen, second, err)
	}
	if third, err := p.use(t.Context()); err != nil || third == second || p.last > stepAt(time.Now())+1 {
		t.Errorf("then %s, %v", third, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	p.last += 10
	if _, err := p.use(ended); err == nil {
		t.Error("a code from the future")
	}
}
