package reach_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/outbound"
	"github.com/countersign/countersign/reach"
)

// post is what a server was sent.
type post struct {
	path   string
	header http.Header
	body   []byte
}

// server is somebody else's, over TLS: it keeps what it is sent.
type server struct {
	*httptest.Server
	roots *x509.CertPool

	mu     sync.Mutex
	posts  []post
	status int           // that it answers
	delay  time.Duration // before it does
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{status: http.StatusCreated, roots: x509.NewCertPool()}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	s.roots.AddCert(s.Certificate())
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.posts = append(s.posts, post{r.URL.Path, r.Header, body})
	status, delay := s.status, s.delay
	s.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
	w.Write([]byte("what only the other side knows"))
}

func (s *server) answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.posts = status, nil
}

func (s *server) got() []post {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts
}

// one returns the only request there was.
func (s *server) one(t *testing.T) post {
	t.Helper()
	all := s.got()
	if len(all) != 1 {
		t.Fatalf("%d requests", len(all))
	}
	return all[0]
}

// outbound is what web push goes out by.
func (s *server) outbound(allow ...netip.Prefix) *outbound.Client {
	return outbound.New(outbound.Options{RootCAs: s.roots, AllowPrivate: allow, Timeout: time.Second})
}

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// browser is one that subscribed.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
	reach.Subscription
}

func subscribe(t *testing.T, endpoint string) browser {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := browser{key: key, auth: make([]byte, 16)}
	rand.Read(b.auth)
	if b.Subscription, err = reach.ParseSubscription(b.json(endpoint)); err != nil {
		t.Fatal(err)
	}
	return b
}

// json is what pushManager.subscribe gives.
func (b browser) json(endpoint string) []byte {
	encoded, _ := json.Marshal(map[string]any{"endpoint": endpoint, "expirationTime": nil, "keys": map[string]string{
		"p256dh": base64.RawURLEncoding.EncodeToString(b.key.PublicKey().Bytes()), "auth": base64.RawURLEncoding.EncodeToString(b.auth),
	}})
	return encoded
}

const approvals = "https://bank.example/approvals"

var clientID = int64(7)

// approval is a message to alice, who can be reached in all ways.
func approval() reach.Message {
	now := time.Now()
	return reach.Message{
		ID: uuid.NewString(), Type: reach.ApprovalRequested, About: uuid.NewString(), URL: approvals, CreatedAt: now, ExpiresAt: now.Add(5 * time.Minute),
		To: reach.Customer{ID: uuid.New(), Tenant: "default", FineractClientID: &clientID, Email: "alice@example.com", PhoneNumber: "+254711000222"},
	}
}

// mustNotShow fails the test when an error, which is logged, shows what is nobody else's.
func mustNotShow(t *testing.T, err error, secrets ...string) {
	t.Helper()
	for _, secret := range append(secrets, "alice@example.com", "+254711000222", "what only the other side knows") {
		if err != nil && bytes.Contains([]byte(err.Error()), []byte(secret)) {
			t.Errorf("the error shows %q: %v", secret, err)
		}
	}
}
