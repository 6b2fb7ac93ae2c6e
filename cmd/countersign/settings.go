package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/storage"
)

// databaseSettings are what every command needs that touches the database.
type databaseSettings struct {
	DatabaseURL   string `help:"Postgres connection string." env:"DATABASE_URL" required:"" placeholder:"URL"`
	MasterKeyFile string `help:"File with the key that wraps all data keys, as 'countersign key master' makes it." env:"COUNTERSIGN_MASTER_KEY_FILE" placeholder:"FILE" xor:"master"`
	MasterKey     string `help:"The same key itself, base64." env:"COUNTERSIGN_MASTER_KEY" placeholder:"BASE64" xor:"master"`
}

func (s *databaseSettings) masterKey() ([]byte, error) {
	text := s.MasterKey
	if s.MasterKeyFile != "" {
		content, err := os.ReadFile(s.MasterKeyFile)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		text = string(content)
	}
	if text == "" {
		return nil, errors.New("no master key: make one with 'countersign key master > master.key' and name it with --master-key-file")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != 32 {
		return nil, errors.New("the master key is not 32 bytes in base64")
	}
	return key, nil
}

// open connects to the database.
func (s *databaseSettings) open(ctx context.Context) (*storage.DB, error) {
	master, err := s.masterKey()
	if err != nil {
		return nil, err
	}
	return storage.Open(ctx, storage.Options{DSN: s.DatabaseURL, MasterKey: master, MaxConns: 2})
}

// serverSettings are all that can be set about a server. Flags win over the environment, that over the file.
type serverSettings struct {
	databaseSettings     `embed:""`
	registrationSettings `embed:""`
	cibaSettings         `embed:""`
	transactionSettings  `embed:""`
	accessSettings       `embed:""`
	reachSettings        `embed:""`
	selfSettings         `embed:""`
	fineractSettings     `embed:""`
	factorSettings       `embed:""`
	limitSettings        `embed:""`
	federationSettings   `embed:""`

	Issuer       string   `help:"Public https URL of this server, as clients know it." env:"COUNTERSIGN_ISSUER" required:"" placeholder:"URL"`
	MTLSBase     string   `name:"mtls-base" help:"Https URL of the listener that asks for client certificates." env:"COUNTERSIGN_MTLS_BASE" required:"" placeholder:"URL"`
	Listen       string   `help:"Address of the public listener." env:"COUNTERSIGN_LISTEN" default:":8443" placeholder:"ADDRESS"`
	MTLSListen   string   `name:"mtls-listen" help:"Address of the listener that asks for client certificates." env:"COUNTERSIGN_MTLS_LISTEN" default:":8444" placeholder:"ADDRESS"`
	HealthListen string   `help:"Address for health checks over plain HTTP (/livez, /readyz) and metrics (/metrics); none by default." env:"COUNTERSIGN_HEALTH_LISTEN" placeholder:"ADDRESS"`
	TLSCert      []string `name:"tls-cert" help:"Certificate chain of both listeners (PEM). Several kinds may be given (ECDSA, RSA)." env:"COUNTERSIGN_TLS_CERT" required:"" placeholder:"FILE"`
	TLSKey       []string `name:"tls-key" help:"Private keys of the certificates, in the same order (PEM)." env:"COUNTERSIGN_TLS_KEY" required:"" placeholder:"FILE"`
	ClientCA     []string `name:"client-ca" help:"Issuers whose certificates clients with tls_client_auth may use (PEM)." env:"COUNTERSIGN_CLIENT_CA" placeholder:"FILE"`

	CertificateHeader   string   `name:"client-certificate-header" help:"Header in which proxies in front of mtls-listen hand over the certificate of a client (docs/operating.md); none by default." env:"COUNTERSIGN_CLIENT_CERTIFICATE_HEADER" placeholder:"NAME"`
	CertificateForm     string   `name:"client-certificate-form" help:"How they write it: rfc9440, nginx (URL-encoded PEM), haproxy (base64), envoy (x-forwarded-client-cert) or pem (anything like PEM)." env:"COUNTERSIGN_CLIENT_CERTIFICATE_FORM" enum:"rfc9440,nginx,haproxy,envoy,pem" default:"rfc9440"`
	CertificateVerified bool     `name:"client-certificate-verified" help:"They let only certificates of client-ca through: do not check issuers again." env:"COUNTERSIGN_CLIENT_CERTIFICATE_VERIFIED"`
	TrustedProxies      []string `name:"trusted-proxy" help:"Networks where these proxies are; from anywhere else the header is ignored." env:"COUNTERSIGN_TRUSTED_PROXY" placeholder:"CIDR"`

	OutboundCA    []string `name:"outbound-ca" help:"Authorities, beside the system's, that vouch for the addresses that clients name: jwks_uri, request_uri, logout and notification endpoints (PEM)." env:"COUNTERSIGN_OUTBOUND_CA" placeholder:"FILE"`
	OutboundCert  string   `name:"outbound-certificate" help:"Certificate chain that this server shows to notification endpoints whose clients registered that they ask for one (PEM)." env:"COUNTERSIGN_OUTBOUND_CERTIFICATE" placeholder:"FILE"`
	OutboundKey   string   `name:"outbound-key" help:"Private key of that certificate (PEM)." env:"COUNTERSIGN_OUTBOUND_KEY" placeholder:"FILE"`
	OutboundAllow []string `name:"outbound-allow" help:"Networks where such addresses may be although they are not public." env:"COUNTERSIGN_OUTBOUND_ALLOW" placeholder:"CIDR"`

	Clients  string   `help:"YAML file of clients to register at start." env:"COUNTERSIGN_CLIENTS" placeholder:"FILE"`
	Resource string   `help:"Resource identifier of the bank's API: the audience of tokens for which no other was asked." env:"COUNTERSIGN_RESOURCE" required:"" placeholder:"URI"`
	Scopes   []string `help:"Scopes to show in the metadata." env:"COUNTERSIGN_SCOPES" default:"openid,profile,email,address,phone,offline_access,accounts,payments"`

	DetailTypes string `name:"authorization-details-types" help:"Folder of types of authorization_details, one JSON file each, beside the built-in ones or in their place (docs/authorization-details.md)." env:"COUNTERSIGN_AUTHORIZATION_DETAILS_TYPES" placeholder:"DIR"`

	Tenant       string   `help:"Fineract tenant that this server's customers belong to." env:"COUNTERSIGN_TENANT" default:"default"`
	BankName     string   `help:"The institution's name, as customers know it." env:"COUNTERSIGN_BANK_NAME" default:"Countersign Bank"`
	BankColour   string   `help:"Its colour." env:"COUNTERSIGN_BANK_COLOUR" default:"#0b5d4f" placeholder:"#RRGGBB"`
	BankSupport  string   `help:"Where customers find help: a line of text." env:"COUNTERSIGN_BANK_SUPPORT"`
	SecondFactor string   `help:"Who needs a second factor: everybody (required), everybody who grants access to accounts or pays (consents), or only those who enrolled one (optional)." env:"COUNTERSIGN_SECOND_FACTOR" enum:"required,consents,optional" default:"consents"`
	LowValue     []string `name:"low-value" help:"Amounts, by currency, up to which paying needs no second factor; by default it always does." env:"COUNTERSIGN_LOW_VALUE" placeholder:"CURRENCY=AMOUNT"`
	SignUp       bool     `help:"Let people sign up by themselves." env:"COUNTERSIGN_SIGN_UP"`

	DPoPNonces bool     `name:"dpop-nonces" help:"Demand a nonce of this server in DPoP proofs (RFC 9449 section 8)." env:"COUNTERSIGN_DPOP_NONCES" default:"true" negatable:""`
	Signing    []string `help:"Algorithms to sign with." env:"COUNTERSIGN_SIGNING" default:"ES256,PS256,EdDSA,RS256"`
	HSTS       bool     `name:"hsts" help:"Tell browsers to use https only (Strict-Transport-Security)." env:"COUNTERSIGN_HSTS" default:"true" negatable:""`
	MaxConns   int32    `help:"Most connections to the database; 0 for the driver's choice." env:"COUNTERSIGN_MAX_CONNS"`
	LogLevel   string   `help:"debug, info, warn or error." env:"COUNTERSIGN_LOG_LEVEL" enum:"debug,info,warn,error" default:"info"`

	RequestURILifetime time.Duration `name:"request-uri-lifetime" help:"How long a pushed request may wait for its browser; 0 for what the client's profile says, which is also the most." env:"COUNTERSIGN_REQUEST_URI_LIFETIME" placeholder:"DURATION"`
}

// yamlSettings lets a YAML file give what flags do not.
func yamlSettings(r io.Reader) (kong.Resolver, error) {
	settings := map[string]any{}
	if err := yaml.NewDecoder(r).Decode(&settings); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("settings file: %w", err)
	}
	return &yamlResolver{settings}, nil
}

type yamlResolver struct{ settings map[string]any }

// Validate refuses settings that no flag has: a typing error must not go unnoticed.
func (y *yamlResolver) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var collect func(n *kong.Node)
	collect = func(n *kong.Node) {
		for _, f := range n.Flags {
			known[f.Name] = true
		}
		for _, child := range n.Children {
			collect(child)
		}
	}
	collect(app.Node)
	var wrong []error
	for name := range y.settings {
		if !known[name] {
			wrong = append(wrong, fmt.Errorf("settings file: %q is not a setting", name))
		}
	}
	return errors.Join(wrong...)
}

func (y *yamlResolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	value, ok := y.settings[flag.Name]
	if !ok {
		return nil, nil
	}
	if flag.Tag != nil { // an environment variable wins over the file
		for _, name := range flag.Tag.Envs {
			if _, set := os.LookupEnv(name); set {
				return nil, nil
			}
		}
	}
	if list, ok := value.([]any); ok {
		texts := make([]string, len(list))
		for i, x := range list {
			texts[i] = fmt.Sprint(x)
		}
		return strings.Join(texts, ","), nil
	}
	return value, nil
}
