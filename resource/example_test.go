package resource_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/resource"
)

// An API for accounts, which customers of the bank open to apps. The app needs the scope accounts; the customer must have
// consented to the permission, and chosen the account.
func Example_accounts() {
	bank, trusted := startAuthorizationServer()
	defer bank.Close()
	ourKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // registered with the authorization server

	guard, err := resource.New(context.Background(), resource.Config{
		Issuer:         bank.URL,
		Audience:       "https://api.bank.example",
		ClientID:       "accounts-api",
		Authentication: resource.PrivateKeyJWT(ourKey, "2026-03", jose.ES256),
		RootCAs:        trusted,
		CacheFor:       10 * time.Second,
		AllowBearer:    true, // for the brevity of this example: a bank wants tokens that are bound
		Log:            slog.New(slog.DiscardHandler),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer guard.Close()

	mux := http.NewServeMux()
	mux.Handle("GET /accounts/{account}", guard.Require(
		resource.Need{
			Scopes:      []string{"accounts"},
			Permissions: []string{"ReadAccountsBasic"},
			Account:     resource.PathValue("account"),
		},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p := resource.PrincipalFrom(r.Context())
			fmt.Fprintf(w, "account %s of client %d in tenant %s", r.PathValue("account"), p.FineractClientID, p.Tenant)
		})))

	call := func(path, token string) {
		r := httptest.NewRequest("GET", path, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Result().Body)
		fmt.Println(w.Code, string(body))
	}
	call("/accounts/7", "csat_alice")
	call("/accounts/9", "csat_alice")
	call("/accounts/7", "csat_stale")
	call("/accounts/7", "")

	// Output:
	// 200 account 7 of client 42 in tenant default
	// 403 {"error":"insufficient_scope"}
	// 401 {"error":"invalid_token"}
	// 401
}

// A handler is tested without tokens.
func ExampleWithPrincipal() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("Hello,", resource.PrincipalFrom(r.Context()).Subject)
	})

	r := httptest.NewRequest("GET", "/", nil)
	alice := &resource.Principal{Subject: "alice", Scopes: []string{"accounts"}}
	handler.ServeHTTP(httptest.NewRecorder(), r.WithContext(resource.WithPrincipal(r.Context(), alice)))

	// Output:
	// Hello, alice
}

// startAuthorizationServer stands for Countersign. It knows one token.
func startAuthorizationServer() (*httptest.Server, *x509.CertPool) {
	mux := http.NewServeMux()
	server := httptest.NewTLSServer(mux)
	answer := func(w http.ResponseWriter, format string, args ...any) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, format, args...)
	}
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `{"issuer":%q,"introspection_endpoint":%q}`, server.URL, server.URL+"/introspect")
	})
	mux.HandleFunc("POST /introspect", func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("token") != "csat_alice" {
			answer(w, `{"active":false}`)
			return
		}
		answer(w, `{"active":true,"iss":%q,"aud":"https://api.bank.example","exp":%d,"sub":"alice","client_id":"app",
			"scope":"accounts","fineract_tenant":"default","fineract_client_id":42,"account_ids":["7","8"],
			"consent_id":"aac-1","consent_status":"Authorised","permissions":["ReadAccountsBasic"]}`,
			server.URL, time.Now().Add(time.Minute).Unix())
	})
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	return server, trusted
}
