// Package journeys_test takes customers through everything that they can do, page by page in a real browser: on a phone, at a desk,
// without JavaScript, and by keyboard alone. The server, its database, its TLS and the mail server are real; nothing is prepared but who
// is a customer.
package journeys_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// bank is the server of all journeys, with an app and a backend of the bank's own.
type bank struct {
	*authztest.Server
	authn    *authn.Authn
	mail     *mailServer
	app      *authztest.Client // pushes its requests
	speaker  *authztest.Client // asks by CIBA
	backend  *authztest.Client // starts transactions
	callback string            // where the app has its customers sent
	pages    *web.Pages
}

func openBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{mail: &mailServer{boxes: map[string]chan string{}}}
	b.Server = authztest.Start(t, authztest.Options{Channels: func(s *authztest.Server) []reach.Channel {
		email, err := reach.NewEmail(reach.EmailOptions{
			Address: b.mail.serve(t, s), TLS: reach.StartTLS, From: "Meadow Bank <no-reply@meadow.example>", Bank: "Meadow Bank", RootCAs: s.Roots,
		})
		check(t, err)
		return []reach.Channel{email}
	}})
	var err error
	b.pages, err = web.New(web.Brand{Name: "Meadow Bank"})
	check(t, err)
	b.authn = authn.New(b.DB, b.pages, zap.NewNop(), b.Config.Authn)
	b.callback = b.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><html lang="en"><title>The app</title><main id="client_page"><h1>Back at the app</h1></main></html>`)
	})) + "/callback"
	b.app = b.AddClient(t, "acorn", fapi.FAPI2, fapi.PrivateKeyJWT, map[string]any{
		"client_name": "Acorn Budget", "redirect_uris": []string{b.callback}, "dpop_bound_access_tokens": true,
	})
	b.app.DPoPKey = authztest.NewKey(t)
	b.speaker = b.AddClient(t, "speaker", fapi.OpenID, fapi.PrivateKeyJWT, map[string]any{
		"client_name": "Kitchen speaker", "grant_types": []string{"authorization_code", "refresh_token", fapi.GrantCIBA},
		"backchannel_token_delivery_mode": fapi.Poll, "authorization_details_types": []string{"payment_initiation"},
	})
	b.backend = b.AddClient(t, "payments", fapi.OpenID, fapi.PrivateKeyJWT, map[string]any{"client_name": "Meadow Payments", "scope": "openid transactions"})
	return b
}

// customer makes somebody who has these kinds of second factors.
func (b *bank) customer(t *testing.T, username string, kinds ...string) uuid.UUID {
	t.Helper()
	email := username + "@people.example"
	id, err := b.authn.CreateCustomer(t.Context(), authn.NewCustomer{
		Profile:  storage.Profile{Username: username, Name: "Amina Wanjiru Njoroge", Email: email, EmailVerified: true},
		Password: authztest.Password, Roles: []string{"USER"},
		Accounts: []storage.Account{{ID: "1-" + username, Name: "Savings", Number: "000000012", Currency: "KES"}, {ID: "2-" + username, Name: "School fees", Number: "000000013", Currency: "KES"}},
	})
	check(t, err)
	for _, kind := range kinds {
		secret := []byte(appSecret)
		if kind == storage.EmailFactor {
			secret, err = json.Marshal(map[string]string{"address": email})
			check(t, err)
		}
		check(t, b.DB.SetFactor(t.Context(), storage.NewID(), id, kind, secret, storage.Event{CustomerID: id, Kind: "factor.added"}))
	}
	return id
}

// appSecret is what the authenticator app of a customer has who was made with one.
const appSecret = "an app's own secret!"

// authorizeURL is where the app sends a browser.
func (b *bank) authorizeURL(t *testing.T, changes map[string]string) string {
	t.Helper()
	all := map[string]string{"redirect_uri": b.callback, "prompt": "consent"}
	for name, value := range changes {
		all[name] = value
	}
	return b.Issuer + "/authorize?" + url.Values{"client_id": {b.app.ID}, "request_uri": {b.app.Push(t, all)}}.Encode()
}

// askByCIBA lets the speaker ask somebody for a payment.
func (b *bank) askByCIBA(t *testing.T, username string) (authReqID string) {
	t.Helper()
	answer := b.speaker.Post(t, "/bc-authorize", url.Values{"scope": {"openid"}, "login_hint": {username}, "binding_message": {"W4SCT"}, "authorization_details": {`[{
		"type":"payment_initiation","instructedAmount":{"currency":"KES","amount":"1250.00"},"creditorName":"Mama Mboga Groceries","creditorAccount":{"iban":"DE02100100109307118603"}}]`}})
	authReqID, _ = answer.JSON["auth_req_id"].(string)
	if authReqID == "" {
		t.Fatalf("bc-authorize answered %d %s", answer.Status, answer.Body)
	}
	return authReqID
}

// startPayment starts one of somebody's own by the transaction API, and returns its id.
func (b *bank) startPayment(t *testing.T, customer uuid.UUID) string {
	t.Helper()
	token, _ := b.backend.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"transactions"}})["access_token"].(string)
	answer := b.backend.Raw(t, http.MethodPost, "/transactions/v1", `{"type":"payment","sub":"`+customer.String()+`","amount":"48500.00","currency":"KES",
		"payee":{"name":"Acme Feeds","account":"DE02100100109307118603"},"reference":"Invoice 7","from_account":"•••• 4821"}`,
		http.Header{"Content-Type": {"application/json"}, "Authorization": {"Bearer " + token}, "X-Idempotency-Key": {rand.Text()}})
	id, _ := answer.JSON["id"].(string)
	if id == "" {
		t.Fatalf("the transaction API answered %d %s", answer.Status, answer.Body)
	}
	return id
}

// transaction is how one stands.
func (b *bank) transaction(t *testing.T, id, status string) {
	t.Helper()
	if b.Count(t, `SELECT count(*) FROM transactions WHERE id = $1 AND status = $2`, id, status) != 1 {
		t.Errorf("the transaction is not %s", status)
	}
}

// mailServer is one that nobody here wrote (emersion/go-smtp), with a box for each address.
type mailServer struct {
	mu    sync.Mutex
	boxes map[string]chan string
}

type mailSession struct {
	*mailServer
	to string
}

func (m *mailServer) serve(t *testing.T, s *authztest.Server) (address string) {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{mailServer: m}, nil }))
	server.Domain, server.ErrorLog = "mail.example", log.New(io.Discard, "", 0)
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*s.ServerCertificate(t, "localhost")}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

func (m *mailServer) box(address string) chan string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boxes[address] == nil {
		m.boxes[address] = make(chan string, 20)
	}
	return m.boxes[address]
}

func (s *mailSession) Reset()                                          {}
func (s *mailSession) Logout() error                                   { return nil }
func (s *mailSession) Mail(string, *smtp.MailOptions) error            { return nil }
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) (err error) { s.to = to; return nil }
func (s *mailSession) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	s.box(s.to) <- string(content)
	return err
}

// read waits for the next mail to an address that is about something, and returns its text.
func (m *mailServer) read(ctx context.Context, t *testing.T, address, subject string) string {
	t.Helper()
	for {
		select {
		case content := <-m.box(address):
			about, text := plainText(t, content)
			if strings.HasSuffix(about, subject) {
				return text
			}
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(20 * time.Second):
			t.Fatalf("no mail about %q has come to %s", subject, address)
		}
	}
}

// plainText is the subject and the first part of a mail.
func plainText(t *testing.T, content string) (subject, text string) {
	t.Helper()
	parsed, err := mail.ReadMessage(strings.NewReader(content))
	check(t, err)
	subject, err = new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	check(t, err)
	_, params, err := mime.ParseMediaType(parsed.Header.Get("Content-Type"))
	check(t, err)
	part, err := multipart.NewReader(parsed.Body, params["boundary"]).NextRawPart()
	check(t, err)
	body := io.Reader(part)
	if strings.EqualFold(part.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	decoded, err := io.ReadAll(body)
	check(t, err)
	return subject, string(decoded)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
