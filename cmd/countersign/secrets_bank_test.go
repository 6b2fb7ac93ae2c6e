//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn/federation/federationtest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage/privatepg"
)

// vault is a bank with everything switched on, which talks as much as it can, and whose traffic is recorded.
type vault struct {
	*house
	*recorder
	t           *testing.T
	at          *replica
	mail        *inbox
	sms         *inbox
	hook        *inbox
	told        *inbox // clients, of outcomes
	provider    *federationtest.Provider
	commands    logBuffer // what the command line said
	postgresLog logBuffer // what Postgres logged: every statement with what was put into it
}

// message is what somebody was sent.
type message struct{ id, to, text string }

// inbox has all that came over one channel.
type inbox struct {
	mu   sync.Mutex
	all  []message
	read map[string]bool
}

func (b *inbox) add(to, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, message{fmt.Sprintf("%p-%d", b, len(b.all)), to, text})
}

func (b *inbox) messages() []message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.all)
}

// take reads the oldest message that was not read yet and is wanted.
func (b *inbox) take(wanted func(message) bool) (message, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.all {
		if !b.read[m.id] && wanted(m) {
			b.read[m.id] = true
			return m, true
		}
	}
	return message{}, false
}

// next waits for a message to an address that has a marker.
func (b *inbox) next(t *testing.T, to, marker string) (m message) {
	t.Helper()
	waitUntil(t, "a message to "+to, 10*time.Second, func() (there bool) {
		m, there = b.take(func(m message) bool { return m.to == to && strings.Contains(m.text, marker) })
		return there
	})
	return m
}

// NewSession and what follows are the mail server's. It refuses who is called bounce, and quotes what it should not.
func (v *vault) NewSession(*smtp.Conn) (smtp.Session, error) { return &postman{vault: v}, nil }

type postman struct {
	vault *vault
	to    string
}

const (
	mailUser = "bank-mailer"
	mailName = "Heron Bank <no-reply@heron.example>"
)

func (p *postman) AuthMechanisms() []string { return []string{sasl.Plain} }

func (p *postman) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if p.vault.learn("smtp password", password).what != "smtp password" {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (p *postman) Reset()                               {}
func (p *postman) Logout() error                        { return nil }
func (p *postman) Mail(string, *smtp.MailOptions) error { return nil }
func (p *postman) Rcpt(to string, _ *smtp.RcptOptions) error {
	if p.to = to; strings.HasPrefix(to, "bounce") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no mailbox of " + to}
	}
	return nil
}

func (p *postman) Data(r io.Reader) error {
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	text, err := plainMail(content)
	if err != nil {
		return err
	}
	p.vault.mail.add(p.to, text)
	if strings.HasPrefix(p.to, "filtered") {
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "is spam: " + strings.ReplaceAll(text, "\n", " ")}
	}
	return nil
}

// plainMail is what a person reads of a mail: subject and text.
func plainMail(content []byte) (string, error) {
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil {
		return "", err
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return "", err
	}
	body, encoding := m.Body, m.Header.Get("Content-Transfer-Encoding")
	if strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(m.Body, params["boundary"]).NextRawPart()
		if err != nil {
			return "", err
		}
		body, encoding = part, part.Header.Get("Content-Transfer-Encoding")
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, err := io.ReadAll(body)
	return subject + "\n" + string(text), err
}

// gateway takes text messages; it fails for one number, and says why at length.
func (v *vault) gateway(w http.ResponseWriter, r *http.Request) {
	var sent struct{ To, Text string }
	body, _ := io.ReadAll(r.Body)
	json.Unmarshal(body, &sent)
	v.sms.add(sent.To, sent.Text)
	if strings.HasSuffix(sent.To, "000") {
		http.Redirect(w, r, "/refused?why="+url.QueryEscape(string(body)), http.StatusFound)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

// site is a server of somebody else's, over TLS.
func (v *vault) site(handler http.HandlerFunc) string {
	key, err := newKey()
	ok(v.t, err)
	pair, err := v.ca.server(key)
	ok(v.t, err)
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	v.t.Cleanup(s.Close)
	return s.URL
}

func (v *vault) serveMail() string {
	key, err := newKey()
	ok(v.t, err)
	pair, err := v.ca.server(key)
	ok(v.t, err)
	s := smtp.NewServer(v)
	s.Domain, s.ErrorLog, s.TLSConfig = "mail.example", log.New(io.Discard, "", 0), &tls.Config{Certificates: []tls.Certificate{pair}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(v.t, err)
	go s.Serve(l)
	v.t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// ServeHTTP takes what is posted.
func (b *inbox) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	b.add("", string(body))
}

// keep writes a secret of the operator's to a file.
func (v *vault) keep(what, value string) (file string) {
	v.learn(what, value)
	file = filepath.Join(v.dir, strings.ReplaceAll(what, " ", "-"))
	ok(v.t, os.WriteFile(file, []byte(value), 0o600))
	return file
}

func openVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{t: t, recorder: &recorder{known: map[string]*confidential{}}}
	for _, b := range []**inbox{&v.mail, &v.sms, &v.hook, &v.told} {
		*b = &inbox{read: map[string]bool{}}
	}
	v.house = openHouseOn(t, privatepg.Options{
		Settings: map[string]string{"log_statement": "all", "log_parameter_max_length": "-1", "log_parameter_max_length_on_error": "-1", "log_min_error_statement": "debug5"},
		Logf:     func(format string, args ...any) { fmt.Fprintf(&v.postgresLog, format+"\n", args...) },
	})
	v.at = v.replicas[0]
	v.learn("password", housePassword)
	master, err := os.ReadFile(filepath.Join(v.dir, "master.key"))
	ok(t, err)
	v.learn("master key", strings.TrimSpace(string(master)))
	v.addClients()
	settings := map[string]any{}
	readJSONFile(t, v.settings, &settings)
	for name, value := range map[string]any{
		"log-level": "debug", "bank-name": "Heron Bank", "sign-up": true, "second-factor": "consents", "fineract-api": true, "transaction-password": true, "codes-per-hour": 60,
		"first-block": "1s", "longest-block": "1s", "registration": "open", "registration-profile": []string{"openid"}, "dpop-nonces": true,
		"smtp-address": v.serveMail(), "smtp-from": mailName, "smtp-user": mailUser, "smtp-password-file": v.keep("smtp password", randomText()),
		"sms-gateway": v.site(v.gateway), "sms-gateway-token-file": v.keep("gateway token", randomText()),
		"approval-webhook": v.site(func(_ http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			v.hook.add("bank", string(body))
		}),
		"approval-webhook-secret-file": []string{v.keep("webhook secret", "whsec_"+base64.StdEncoding.EncodeToString([]byte(randomText()+randomText())))},
		"reach-ca":                     []string{v.ca.file}, "outbound-ca": []string{v.ca.file}, "outbound-allow": []string{"127.0.0.0/8"},
		"identity-providers": v.addProvider(), "identity-provider-ca": []string{filepath.Join(v.dir, "provider.pem")}, "identity-provider-allow": []string{"127.0.0.0/8"},
		"scopes": []string{"openid", "profile", "email", "phone", "offline_access", "accounts", "payments", "transactions", "fineract"},
	} {
		settings[name] = value
	}
	ok(t, writeJSONFile(v.settings, settings))
	return v
}

// addProvider starts another identity provider, whose codes and tokens are secrets, and writes the file about it.
func (v *vault) addProvider() string {
	p := federationtest.New(v.t)
	v.provider = p
	nonces := sync.Map{}
	p.Auth = func(asked, answer url.Values) {
		code := v.learn("provider's code", randomText()).value
		nonces.Store(code, asked.Get("nonce"))
		answer.Set("code", code)
		v.learn("nonce", asked.Get("nonce"))
	}
	p.Token = func(w http.ResponseWriter, r *http.Request) bool {
		v.learn("code verifier", r.PostForm.Get("code_verifier"))
		nonce, known := nonces.LoadAndDelete(r.PostForm.Get("code"))
		w.Header().Set("Content-Type", "application/json")
		if !known || strings.HasPrefix(v.providerSays("sub"), "refused") { // with all that it knows
			w.WriteHeader(http.StatusBadRequest)
			said := fmt.Sprintf("no code %s, verifier %s, of %s", r.PostForm.Get("code"), r.PostForm.Get("code_verifier"), r.Header.Get("Authorization"))
			json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": said})
			return true
		}
		now := time.Now()
		claims := map[string]any{"iss": p.URL, "aud": "bank", "nonce": nonce, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(), "auth_time": now.Unix()}
		if p.Claims != nil {
			p.Claims(claims)
		}
		json.NewEncoder(w).Encode(map[string]any{
			"access_token": v.learn("provider's access token", randomText()).value, "refresh_token": v.learn("provider's refresh token", randomText()).value,
			"token_type": "Bearer", "id_token": v.learn("provider's ID token", p.Signed(claims, p.Key, p.KID)).value,
		})
		return true
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw})
	ok(v.t, os.WriteFile(filepath.Join(v.dir, "provider.pem"), certificate, 0o600))
	file := filepath.Join(v.dir, "providers.yaml")
	ok(v.t, writeJSONFile(file, map[string]any{"providers": []map[string]any{{
		"id": "meadow", "name": "Meadow ID", "issuer": p.URL, "client_id": "bank", "client_secret_file": v.keep("provider secret", randomText()),
		"link": []string{"email", "phone", "login"}, "sign_up": true,
	}}}))
	return file
}

// providerSays is a claim that the provider makes.
func (v *vault) providerSays(name string) string {
	claims := map[string]any{}
	if v.provider.Claims != nil {
		v.provider.Claims(claims)
	}
	text, _ := claims[name].(string)
	return text
}

// addClients adds clients of the other grants to the file.
func (v *vault) addClients() {
	file := filepath.Join(v.dir, "clients.yaml")
	var clients struct {
		Clients []map[string]any `json:"clients"`
	}
	readJSONFile(v.t, file, &clients)
	for _, c := range clients.Clients {
		if c["client_id"] == "bank-api" {
			c["grant_types"] = []string{"client_credentials"}
			c["scope"], c["resources"] = "transactions", []string{houseResource}
			c["tls_client_certificate_bound_access_tokens"] = true
		}
	}
	for id, more := range map[string]map[string]any{
		"app-dpop": {"profile": "fapi2", "grant_types": []string{"authorization_code", "refresh_token"}, "redirect_uris": []string{houseRedirect}, "dpop_bound_access_tokens": true},
		"speaker":  {"grant_types": []string{fapi.GrantCIBA}, "backchannel_token_delivery_mode": "poll", "backchannel_user_code_parameter": true},
		"till":     {"grant_types": []string{fapi.GrantCIBA}, "backchannel_token_delivery_mode": "ping", "backchannel_client_notification_endpoint": v.site(v.told.ServeHTTP) + "/ciba"},
		"display":  {"grant_types": []string{fapi.GrantDeviceCode, "refresh_token"}},
	} {
		key, err := newKey()
		ok(v.t, err)
		m := map[string]any{
			"client_id": id, "profile": "openid", "token_endpoint_auth_method": "private_key_jwt", "scope": "openid profile email phone accounts offline_access", "resources": []string{houseResource},
			"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: id, Algorithm: "ES256", Use: "sig"}}},
		}
		for name, value := range more {
			m[name] = value
		}
		clients.Clients = append(clients.Clients, m)
		v.callers[id] = &caller{house: v.house, id: id, key: key}
	}
	ok(v.t, writeJSONFile(file, clients))
}

// runs runs a command of an operator's, who types something, and keeps what it says; told is what it is meant to say aloud.
func (v *vault) runs(typed string, told bool, args ...string) string {
	v.t.Helper()
	cmd := v.command(append(args, "--master-key-file", filepath.Join(v.dir, "master.key"))...)
	cmd.Stdin = strings.NewReader(typed)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &v.commands
	if !told {
		cmd.Stdout = io.MultiWriter(&out, &v.commands)
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(&v.commands, strings.Join(args[:2], " "), "failed:", err)
	}
	return out.String()
}
