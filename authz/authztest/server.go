package authztest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authn/fineract"
	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/authz/keys"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/storage/storagetest"
	"github.com/countersign/countersign/web"
)

// Resource is the resource identifier of the bank's API.
const Resource = "https://api.bank.example"

// RedirectURI is where all test clients want to be sent.
const RedirectURI = "https://app.example/callback"

// Server is a running server.
type Server struct {
	*authz.Server
	DB       *storage.DB
	DSN      string
	Issuer   string
	MTLSBase string
	Roots    *x509.CertPool // trusts the server's certificate
	Trace    *Trace
	ca       *authority
	clients  map[string]*Client
}

// Options change what Start makes. The zero value is what most tests want.
type Options struct {
	DSN        string // a database that another server uses too; "": one of its own
	Issuer     string // that other server's issuer: both then speak for one
	MTLSBase   string
	DPoPNonces bool
	RequireSCA bool
	PublicOnly bool    // call what clients name only at public addresses; else on this machine too
	Anonymous  bool    // has no certificate to show to clients' sites
	Like       *Server // share its authority and clients

	Log *zap.Logger // nil: what goes wrong, to the test's log

	Signing []jose.SignatureAlgorithm // what it signs with beside ES256 and EdDSA

	CertificateHeader *fapi.CertificateHeader // of proxies in front of the listener for certificates; see Behind

	LowValue fapi.AmountLimits // with RequireSCA: up to which paying needs no second factor
	CIBA     authz.CIBA
	Fineract fineract.Config // where it says no context, Fineract's own
	Tenant   string          // whose customers log in; "": default

	FactorKinds []string // kinds of second factors that customers use

	Authn func(*authn.Config) // changes how customers log in; nil: nothing

	Approving    authn.Transactions // how transactions are approved
	Transactions consent.TransactionLimits

	Customers engine.Customers // what roles and attributes decide

	Registration authz.Registration // by default open, with all profiles, openid first

	Channels func(*Server) []reach.Channel // by which customers are reached; the server has its authority by then, so Site works
}

// Start runs a server until the test ends.
func Start(t testing.TB, options ...Options) *Server {
	t.Helper()
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	s := &Server{DSN: o.DSN, Trace: &Trace{}}
	if o.Like != nil {
		s.DSN, s.ca, s.clients = o.Like.DSN, o.Like.ca, o.Like.clients
		o.Issuer, o.MTLSBase = o.Like.Issuer, o.Like.MTLSBase
	} else {
		s.ca = newAuthority(t)
	}
	s.Roots = s.ca.pool()
	if s.DSN == "" {
		s.DSN = storagetest.New(t)
	}
	ctx, stop := context.WithCancel(context.Background())
	var err error
	s.DB, err = storage.Open(ctx, storage.Options{DSN: s.DSN, MasterKey: make([]byte, 32), MaxConns: 8, Tracer: s.Trace})
	check(t, err)
	public, mutual := listen(t), listen(t)
	s.Issuer, s.MTLSBase = "https://"+public.Addr().String(), "https://"+mutual.Addr().String()
	config := authz.Config{
		Issuer: s.Issuer, MTLSBase: s.MTLSBase, Resource: Resource, ClientCAs: s.Roots, CertificateHeader: o.CertificateHeader, DPoPNonces: o.DPoPNonces,
		Scopes: []string{"openid", "profile", "email", "accounts"}, DetailTypes: fapi.DefaultDetailTypes(), RequireSCA: o.RequireSCA, LowValue: o.LowValue, CIBA: o.CIBA,
		Customers: o.Customers,
		Authn:     authn.Config{Tenant: "default", SignUp: true, Argon2: authn.Argon2{Memory: 64, Time: 1, Threads: 1}},
	}
	config.Authn.FactorKinds, config.Authn.Transactions, config.Transactions = o.FactorKinds, o.Approving, o.Transactions
	if o.Tenant != "" {
		config.Authn.Tenant = o.Tenant
	}
	if o.Authn != nil {
		o.Authn(&config.Authn)
	}
	if config.Fineract = o.Fineract; config.Fineract.Context == "" {
		config.Fineract.Context = fineract.DefaultContext
	}
	if config.Registration = o.Registration; config.Registration.Mode == "" {
		config.Registration.Mode = authz.RegistrationOpen
		config.Registration.Profiles = append([]fapi.ProfileName{fapi.OpenID}, fapi.ProfileNames()...)
	}
	if o.Issuer != "" {
		config.Issuer, config.MTLSBase = o.Issuer, o.MTLSBase
	}
	keySet, err := keys.Open(ctx, s.DB, append([]jose.SignatureAlgorithm{jose.ES256, jose.EdDSA}, o.Signing...), jose.ECDH_ES)
	check(t, err)
	if o.Like == nil {
		s.registerClients(t)
		s.createCustomer(t, config.Authn)
	}
	pages, err := web.New(web.Brand{Name: "Meadow Bank"})
	check(t, err)
	log := o.Log
	switch {
	case log != nil:
	case testing.Verbose():
		log = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	default:
		log = zap.NewNop()
	}
	parts := authz.Parts{DB: s.DB, Keys: keySet, Pages: pages, Outbound: s.outbound(t, o), Log: log}
	if o.Channels != nil {
		parts.Channels = o.Channels(s)
	}
	s.Server, err = authz.New(ctx, config, parts)
	check(t, err)
	background := make(chan struct{})
	go func() { s.Server.Run(ctx); close(background) }()
	closePublic := serve(public, s.Public(), s.ca.serverTLS(t, tls.NoClientCert))
	closeMutual := serve(mutual, s.MutualTLS(), s.ca.serverTLS(t, tls.RequestClientCert))
	t.Cleanup(func() {
		closePublic()
		closeMutual()
		stop()
		<-background
		s.DB.Close()
	})
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	return l
}

func serve(l net.Listener, h http.Handler, config *tls.Config) (closed func() error) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go server.Serve(tls.NewListener(l, config))
	return server.Close
}

// Behind is the server as clients see it whose calls with a certificate go to that address, a proxy's.
func (s *Server) Behind(mtlsBase string) *Server {
	behind := *s
	behind.MTLSBase = mtlsBase
	return &behind
}

// Register stores a client's metadata. A running server hears of it soon: see AddClient.
func (s *Server) Register(t testing.TB, metadata map[string]any, secret string) {
	t.Helper()
	encoded, err := json.Marshal(metadata)
	check(t, err)
	_, err = fapi.ParseClient(encoded)
	check(t, err)
	var hash []byte
	if secret != "" {
		hash = fapi.SecretHash(secret)
	}
	check(t, s.DB.SaveClient(t.Context(), metadata["client_id"].(string), encoded, hash))
}

// SQL runs a statement on the server's database.
func (s *Server) SQL(t testing.TB, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	check(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), sql, args...)
	check(t, err)
}

// Names of the customer that every server has.
const (
	Username = "alice"
	Password = "correct horse battery staple"
)

func (s *Server) createCustomer(t testing.TB, c authn.Config) {
	t.Helper()
	fineract := int64(7)
	pages, err := web.New(web.Brand{Name: "Meadow Bank"})
	check(t, err)
	_, err = authn.New(s.DB, pages, zap.NewNop(), c).CreateCustomer(t.Context(), authn.NewCustomer{
		Profile:  storage.Profile{Username: Username, Name: "Alice Doe", Email: "alice@example.com"},
		Password: Password, FineractClientID: &fineract, Roles: []string{"USER"},
		Accounts: []storage.Account{{ID: "12", Name: "Savings", Number: "000000012", Currency: "KES"}, {ID: "13", Name: "Loan", Number: "000000013", Currency: "KES"}},
	})
	check(t, err)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
