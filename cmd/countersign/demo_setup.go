package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/resource"
	"github.com/countersign/countersign/storage"
)

const (
	bankAPIName = "Bank API"
	bankAPIID   = "bank-api"
)

// startServer registers who takes part and runs the authorization server, the same as `countersign serve`.
func (d *demo) startServer(ctx context.Context) error {
	began := time.Now()
	settings, err := d.settings()
	if err != nil {
		return err
	}
	if d.app, err = newApp(ctx, settings, d.log, nil); err != nil {
		if d.DatabaseURL != "" {
			err = fmt.Errorf("%w\n(a database that another run of the demo has filled opens only with the --dir of that run)", err)
		}
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // so that it is the first to go, not one of many
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := d.app.Run(running); err != nil {
			d.failed <- err
		}
	}()
	d.later(func() {
		cancel()
		<-ended
	})
	d.n.progress("server", fmt.Sprintf("%s, with client certificates on port %d  %s", d.issuer(), d.MTLSPort, seconds(began)))
	began = time.Now()
	if err := d.makeCustomer(ctx); err != nil {
		return err
	}
	d.n.progress("customer", fmt.Sprintf("%s, with %d accounts  %s", d.alice.username, len(sampleLedger()[aliceFineractID]), seconds(began)))
	return nil
}

func (d *demo) settings() (*serverSettings, error) {
	master, err := d.masterKey()
	if err != nil {
		return nil, err
	}
	clients, err := d.writeClients()
	if err != nil {
		return nil, err
	}
	s := &serverSettings{
		databaseSettings:    databaseSettings{DatabaseURL: d.dsn, MasterKey: master},
		cibaSettings:        cibaSettings{CIBALifetime: 5 * time.Minute, CIBAMaxOpen: 5, CIBANotices: 20},
		transactionSettings: transactionSettings{TransactionLifetime: 24 * time.Hour, TransactionMaxOpen: 20, TransactionNotices: 10},
		selfSettings:        selfSettings{DeletionWait: 14 * 24 * time.Hour, RecordsKept: 5 * 365 * 24 * time.Hour},
		Issuer:              d.issuer(),
		MTLSBase:            local(d.MTLSPort),
		Listen:              d.address(d.Port),
		MTLSListen:          d.address(d.MTLSPort),
		ClientCA:            []string{d.ca.file},
		OutboundCA:          []string{d.ca.file},
		OutboundAllow:       []string{"127.0.0.0/8", "::1/128"}, // where the speakers are
		Clients:             clients,
		Resource:            d.bankURL(),
		Scopes:              []string{"openid", "accounts"},
		Tenant:              "default",
		BankName:            bankName,
		BankColour:          "#0b5d4f",
		BankSupport:         "This bank is a demo. Nothing here is real.",
		SecondFactor:        "required",
		DPoPNonces:          true,
		Signing:             []string{"ES256", "PS256"},
	}
	for i, name := range []string{"server-ecdsa", "server-rsa"} {
		cert, key, err := writePair(d.dir, name, d.pairs[i])
		if err != nil {
			return nil, err
		}
		s.TLSCert, s.TLSKey = append(s.TLSCert, cert), append(s.TLSKey, key)
	}
	return s, nil
}

// masterKey is a new one, or that of the folder.
func (d *demo) masterKey() (string, error) {
	file := filepath.Join(d.dir, "master.key")
	content, err := os.ReadFile(file)
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	key := make([]byte, 32)
	rand.Read(key)
	encoded := base64.StdEncoding.EncodeToString(key)
	return encoded, os.WriteFile(file, []byte(encoded+"\n"), 0o600)
}

// writeClients makes the apps and writes the file from which the server registers them.
func (d *demo) writeClients() (string, error) {
	certificate, err := d.ca.client("Acorn Budget")
	if err != nil {
		return "", err
	}
	if d.acorn, err = d.newTPP("acorn-budget", "Acorn Budget", &certificate); err != nil {
		return "", err
	}
	if d.birch, err = d.newTPP("birch-ledger", "Birch Ledger", nil); err != nil {
		return "", err
	}
	if d.birch.dpopKey, err = newKey(); err != nil {
		return "", err
	}
	acorn, birch := d.metadata(d.acorn), d.metadata(d.birch)
	acorn["tls_client_certificate_bound_access_tokens"] = true
	birch["dpop_bound_access_tokens"] = true
	birch["access_token_format"] = fapi.JWT
	bankAPI := map[string]any{
		"client_id":                  bankAPIID,
		"client_name":                bankName + " API",
		"profile":                    fapi.FAPI2,
		"token_endpoint_auth_method": fapi.TLSClientAuth,
		"tls_client_auth_subject_dn": d.reader.Leaf.Subject.String(),
		"grant_types":                []string{fapi.GrantClientCredentials},
		"resource_identifiers":       []string{d.bankURL()},
	}
	speakers, err := d.makeSpeakers()
	if err != nil {
		return "", err
	}
	// By way of JSON, since that is what knows the metadata's names.
	encoded, err := json.Marshal(map[string]any{"clients": append(speakers, acorn, birch, bankAPI)})
	if err != nil {
		return "", err
	}
	var plain any
	if err := yaml.Unmarshal(encoded, &plain); err != nil {
		return "", err
	}
	content, err := yaml.Marshal(plain)
	if err != nil {
		return "", err
	}
	file := filepath.Join(d.dir, "clients.yaml")
	return file, os.WriteFile(file, content, 0o644)
}

func (d *demo) newTPP(id, name string, certificate *tls.Certificate) (*tpp, error) {
	key, err := newKey()
	return &tpp{
		id: id, name: name, issuer: d.issuer(), bank: d.bankURL(), callback: d.appURL() + "/callback",
		key: key, certificate: certificate, http: d.newHTTP(certificate), nonces: &sync.Map{},
	}, err
}

// metadata is what an app registers (RFC 7591 §2).
func (d *demo) metadata(t *tpp) map[string]any {
	return map[string]any{
		"client_id":                       t.id,
		"client_name":                     t.name,
		"client_uri":                      d.appURL(),
		"profile":                         fapi.FAPI2,
		"redirect_uris":                   []string{t.callback},
		"grant_types":                     []string{fapi.GrantAuthorizationCode, fapi.GrantRefreshToken, fapi.GrantClientCredentials},
		"scope":                           "openid accounts",
		"token_endpoint_auth_method":      fapi.PrivateKeyJWT,
		"token_endpoint_auth_signing_alg": jose.ES256,
		"jwks":                            jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: t.key.Public(), KeyID: t.id, Algorithm: "ES256", Use: "sig"}}},
		"id_token_signed_response_alg":    jose.ES256,
		"authorization_details_types":     []string{"account_information"},
		"resources":                       []string{d.bankURL()},
	}
}

// makeCustomer creates alice, as `countersign customer create` does, unless an earlier run has.
func (d *demo) makeCustomer(ctx context.Context) (err error) {
	if d.alice, err = openPhone(d.dir, d.Dir != ""); err != nil {
		return err
	}
	d.bank = &sampleBank{base: d.bankURL(), ledger: sampleLedger()}
	known := d.alice.password != ""
	if !known {
		text := strings.ToLower(rand.Text())
		d.alice.password = text[:4] + "-" + text[4:8] + "-" + text[8:12] + "-" + text[12:16] // 80 bits
	}
	fineractID := int64(aliceFineractID)
	customers := authn.New(d.app.db, nil, d.log, d.app.settings.authn())
	_, err = customers.CreateCustomer(ctx, authn.NewCustomer{
		Profile:          storage.Profile{Username: d.alice.username, Name: "Alice Penrose", Email: "alice@example.com"},
		Password:         d.alice.password,
		FineractClientID: &fineractID,
		Accounts:         d.bank.accounts(aliceFineractID),
	})
	switch {
	case errors.Is(err, storage.ErrConflict) && known:
		return nil
	case errors.Is(err, storage.ErrConflict):
		return fmt.Errorf("the database has a customer %s already, whose password is not in %s", d.alice.username, d.dir)
	case err != nil:
		return err
	}
	d.alice.secret = "" // of another database
	return d.alice.keep()
}

// startBank runs the bank's API.
func (d *demo) startBank(ctx context.Context) (err error) {
	began := time.Now()
	nonceKey := make([]byte, 32)
	rand.Read(nonceKey)
	d.bank.guard, err = resource.New(ctx, resource.Config{
		Issuer:           d.issuer(),
		Audience:         d.bankURL(),
		ClientID:         bankAPIID,
		Authentication:   resource.Certificate(d.reader),
		RootCAs:          d.roots,
		AlwaysIntrospect: true, // and CacheFor 0: what a customer withdraws is gone at once
		DPoPNonceKey:     nonceKey,
		Log:              slog.New(slog.NewJSONHandler(d.logFile, nil)),
	})
	if err != nil {
		return err
	}
	d.later(d.bank.guard.Close)
	if err := d.serve("bank API", d.BankPort, askForCertificate(listenerTLS(d.pairs)), d.bank.handler()); err != nil {
		return err
	}
	d.n.progress("bank API", d.bankURL()+", which asks the server about tokens  "+seconds(began))
	return nil
}

// startApp runs the sample app.
func (d *demo) startApp(ctx context.Context) error {
	mine := *d.acorn // the story has its own, which begins without knowing the server
	if _, err := mine.discover(ctx); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", newTPPPages(&mine, d.alice))
	mux.HandleFunc("POST "+speakersPath+"{mode}", d.hear)
	if err := d.serve("sample app", d.AppPort, listenerTLS(d.pairs), mux); err != nil {
		return err
	}
	d.n.progress("apps", fmt.Sprintf("%s at %s, %s, and three smart speakers", d.acorn.name, d.appURL(), d.birch.name))
	return nil
}
