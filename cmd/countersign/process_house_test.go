//go:build linux

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/storage/privatepg"
)

// house is what the processes of a test share: the binary, the files that an operator writes, and a Postgres that keeps
// its data on the disk and can be killed.
type house struct {
	t        *testing.T // that all of it ends with
	dir      string
	binary   string
	ca       *demoCA
	settings string // file
	issuer   string
	mtlsBase string
	callers  map[string]*caller
	login    *http.Cookie // alice's
	replicas []*replica

	cluster  privatepg.Options // but for its folder
	postgres *privatepg.Server
	database string // a DSN that stays while Postgres comes and goes
}

const (
	houseUser     = "alice"
	housePassword = "correct horse battery staple"
	houseRedirect = "https://app.example/callback"
	houseResource = "https://api.bank.example"
)

// openHouse builds the binary, starts Postgres, and does what docs/operating.md tells an operator to do.
func openHouse(t *testing.T) *house { return openHouseOn(t, privatepg.Options{Durable: true}) }

func openHouseOn(t *testing.T, cluster privatepg.Options) *house {
	t.Helper()
	dir, err := os.MkdirTemp("", "countersign-test-*")
	ok(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	ok(t, os.Chmod(dir, 0o755)) // the account that Postgres gets from root must reach it
	h := &house{t: t, cluster: cluster, dir: dir, binary: filepath.Join(dir, "countersign"), callers: map[string]*caller{}}

	began := time.Now()
	if out, err := exec.Command("go", "build", "-o", h.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Logf("built in %v", time.Since(began).Round(time.Millisecond))

	h.ca, err = openCA(dir, false)
	ok(t, err)
	h.startPostgres(t)
	t.Cleanup(func() { h.postgres.Stop() })
	h.run(t, "migrate")
	master := filepath.Join(dir, "master.key")
	ok(t, os.WriteFile(master, h.run(t, "key", "master"), 0o600))

	for range 2 {
		h.replicas = append(h.replicas, &replica{house: h, public: freeAddress(t), mutual: freeAddress(t), health: freeAddress(t)})
	}
	h.issuer, h.mtlsBase = "https://"+h.replicas[0].public, "https://"+h.replicas[0].mutual
	h.addCallers(t)
	h.writeSettings(t, master)
	password := filepath.Join(dir, "alice.password")
	ok(t, os.WriteFile(password, []byte(housePassword+"\n"), 0o600))
	h.run(t, "customer", "create", "--username", houseUser, "--name", "Alice Doe", "--fineract-client-id", "7",
		"--account", "12:Savings:000000012:KES", "--password-file", password, "--master-key-file", master)
	return h
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer l.Close()
	return l.Addr().String()
}

func (h *house) writeSettings(t *testing.T, master string) {
	t.Helper()
	key, err := newKey()
	ok(t, err)
	pair, err := h.ca.server(key)
	ok(t, err)
	cert, keyFile, err := writePair(h.dir, "server", pair)
	ok(t, err)
	h.settings = filepath.Join(h.dir, "settings.yaml")
	settings := map[string]any{ // JSON is YAML
		"issuer": h.issuer, "mtls-base": h.mtlsBase, "tls-cert": []string{cert}, "tls-key": []string{keyFile}, "client-ca": []string{h.ca.file},
		"clients": filepath.Join(h.dir, "clients.yaml"), "resource": houseResource, "second-factor": "optional", "signing": []string{"ES256"},
		"database-url": h.database, "master-key-file": master, "dpop-nonces": false, "log-level": "error", "max-conns": 8,
	}
	ok(t, writeJSONFile(h.settings, settings))
}

func writeJSONFile(name string, content any) error {
	encoded, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return os.WriteFile(name, encoded, 0o600)
}

// addCallers writes clients.yaml: two apps, one with each way of client authentication, and the bank's resource service.
func (h *house) addCallers(t *testing.T) {
	t.Helper()
	var clients []map[string]any
	for _, id := range []string{"tpp", "tpp-mtls", "bank-api"} {
		cert, err := h.ca.client(id)
		ok(t, err)
		c := &caller{house: h, id: id, certificate: &cert}
		m := map[string]any{"client_id": id, "profile": "fapi2", "token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": "CN=" + id + ",O=Countersign demo"}
		switch id {
		case "bank-api":
			m["resource_identifiers"], m["grant_types"] = []string{houseResource}, []string{"client_credentials"}
		case "tpp":
			c.key, err = newKey()
			ok(t, err)
			delete(m, "tls_client_auth_subject_dn")
			m["token_endpoint_auth_method"] = "private_key_jwt"
			m["jwks"] = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: c.key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}}
		}
		if id != "bank-api" {
			m["redirect_uris"], m["scope"] = []string{houseRedirect}, "openid accounts"
			m["grant_types"] = []string{"authorization_code", "refresh_token", "client_credentials"}
			m["tls_client_certificate_bound_access_tokens"], m["resources"] = true, []string{houseResource}
		}
		clients = append(clients, m)
		h.callers[id] = c
	}
	ok(t, writeJSONFile(filepath.Join(h.dir, "clients.yaml"), map[string]any{"clients": clients}))
}

// command is the binary with nothing of our environment but what it needs to run.
func (h *house) command(args ...string) *exec.Cmd {
	cmd := exec.Command(h.binary, args...)
	cmd.Dir = h.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.dir, "DATABASE_URL=" + h.database}
	return cmd
}

func (h *house) run(t *testing.T, args ...string) []byte {
	t.Helper()
	var stderr bytes.Buffer
	cmd := h.command(args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("countersign %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

// startPostgres starts it over the folder of the last time. Its socket has a new place each time: a link keeps the DSN.
func (h *house) startPostgres(t *testing.T) {
	t.Helper()
	var err error
	h.cluster.Dir = filepath.Join(h.dir, "postgres")
	h.postgres, err = privatepg.Start(h.t.Context(), h.cluster)
	ok(t, err)
	dsn, err := url.Parse(h.postgres.DSN("postgres"))
	ok(t, err)
	query := dsn.Query()
	if query.Get("host") == "" {
		t.Skip("Postgres has no Unix socket here, so its address cannot stay")
	}
	link := filepath.Join(h.dir, "socket")
	ok(t, os.Symlink(query.Get("host"), link+".new"))
	ok(t, os.Rename(link+".new", link))
	query.Set("host", link)
	dsn.RawQuery = query.Encode()
	h.database = dsn.String()
}

// killPostgres ends the postmaster and all its children as a power cut would.
func (h *house) killPostgres(t *testing.T) {
	t.Helper()
	family := append([]int{h.postgres.PID()}, childrenOf(t, h.postgres.PID())...)
	for _, pid := range family {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Fatal(err)
		}
	}
	h.postgres.Stop() // says that it had ended by itself, and tidies up
}

func childrenOf(t *testing.T, parent int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("no /proc: the children of Postgres cannot be found")
	}
	var children []int
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // state, parent …
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			ok(t, err)
			children = append(children, pid)
		}
	}
	return children
}

// replica is one `countersign serve`.
type replica struct {
	house                  *house
	public, mutual, health string // addresses
	process                *exec.Cmd
	log                    *logBuffer
	ended                  chan error
}

// start returns once the server is ready.
func (r *replica) start(t *testing.T) {
	t.Helper()
	r.log, r.ended = &logBuffer{}, make(chan error, 1)
	r.process = r.house.command("serve", "--config", r.house.settings, "--listen", r.public, "--mtls-listen", r.mutual, "--health-listen", r.health)
	r.process.Stderr = r.log
	r.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // however the test ends
	started, process, ended := make(chan error), r.process, r.ended
	go func() {
		runtime.LockOSThread() // the signal comes when the thread that forked ends
		defer runtime.UnlockOSThread()
		err := process.Start()
		started <- err
		if err == nil {
			ended <- process.Wait()
		}
	}()
	ok(t, <-started)
	r.house.t.Cleanup(func() { process.Process.Kill() })
	began := time.Now()
	for {
		response, err := http.Get("http://" + r.health + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-r.ended:
			t.Fatalf("the server ended: %v\n%s", err, r.log)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Since(began) > 20*time.Second {
			t.Fatalf("the server is not ready\n%s", r.log)
		}
	}
}

// kill is kill -9.
func (r *replica) kill(t *testing.T) {
	t.Helper()
	ok(t, r.process.Process.Kill())
	<-r.ended
}

// logBuffer keeps what a process says.
type logBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.all.String()
	return text[max(0, len(text)-4000):]
}

// waitUntil tries until something is so.
func waitUntil(t *testing.T, what string, patience time.Duration, so func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > patience {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

func randomText() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
