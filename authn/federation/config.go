package federation

import (
	"crypto"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Ways to authenticate at a provider's token endpoint (OpenID Connect Core §9).
const (
	SecretBasic   = "client_secret_basic"
	SecretPost    = "client_secret_post"
	PrivateKeyJWT = "private_key_jwt"
)

// Who may link an identity that nobody has: the customer with the email address or phone number that the provider has verified, and
// that is verified here; or whoever can log in here.
const (
	LinkEmail = "email"
	LinkPhone = "phone"
	LinkLogin = "login"
)

// Config is what the institution says of a provider.
type Config struct {
	ID       string // part of our addresses: /login/idp/{id}
	Name     string // that customers know it by
	Issuer   string // compared character by character (OpenID Connect Discovery §4.3)
	ClientID string // ours there

	// Auth is SecretBasic, SecretPost or PrivateKeyJWT, and goes with Secret or Key.
	Auth   string
	Secret string
	Key    *jose.JSONWebKey // private; its Algorithm and KeyID are used

	Scopes   []string // beside openid; default email, profile
	UserInfo bool     // whether to ask the UserInfo endpoint for claims that are not in the ID token

	// Claims names the provider's claim for a member of our profile; for one without an entry it is the one of the same name
	// (OpenID Connect Core §5.1). Attributes names the claim for an attribute of ours. A dot goes into an object: address.country.
	Claims     map[string]string
	Attributes map[string]string

	// ACR and AMR say which of the provider's values are worth more than one factor, or one: our acr value for each. Without
	// them a login there is one factor, and the second is asked for here.
	ACR map[string]string
	AMR map[string]string

	// MaxAge is how long ago a login there may be when it is used here, as far as the customer is not asked anew anyway. 0: any time.
	MaxAge time.Duration

	Request map[string]string // more parameters of the request, such as acr_values or ui_locales

	Link []string // LinkEmail, LinkPhone, LinkLogin; empty: nobody

	// Trusted says that the provider's word for an address is proof enough of whose access it is: where one customer alone has it, the
	// customer only agrees. Whoever can have that provider verify an address of their choice gets in as anybody without a second factor.
	Trusted bool

	SignUp  bool     // whether an identity that nobody here has can become a new customer
	Domains []string // of the verified email address; empty: any, or none
}

var (
	idPattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	reserved   = []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "prompt", "max_age", "login_hint", "request", "request_uri", "claims"}
	signatures = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA, jose.RS256}
)

// Check reports all mistakes at once. acrs are the values that ACR and AMR may lead to.
func (c *Config) Check(acrs ...string) error {
	var wrong []error
	say := func(bad bool, text string) {
		if bad {
			wrong = append(wrong, errors.New(text))
		}
	}
	say(!idPattern.MatchString(c.ID), "id must be 1 to 32 small letters, digits and hyphens")
	say(c.Name == "", "name is empty")
	say(!secureURL(c.Issuer) || strings.ContainsAny(c.Issuer, "?#"), "issuer must be an https URL without query and fragment")
	say(c.ClientID == "", "client_id is empty")
	switch c.Auth {
	case SecretBasic, SecretPost:
		say(c.Secret == "" || c.Key != nil, "auth "+c.Auth+" needs a client secret, and no key")
	case PrivateKeyJWT:
		say(c.Secret != "" || !goodKey(c.Key), "auth private_key_jwt needs a private key with kid and alg, and no client secret")
	default:
		say(true, fmt.Sprintf("auth must be %s, %s or %s", SecretBasic, SecretPost, PrivateKeyJWT))
	}
	say(c.MaxAge < 0, "max_age must not be negative")
	for name := range c.Request {
		say(slices.Contains(reserved, name), "request: "+name+" is not to be set")
	}
	for _, mapped := range []map[string]string{c.ACR, c.AMR} {
		for value, acr := range mapped {
			say(value == "" || !slices.Contains(acrs, acr), fmt.Sprintf("acr and amr lead to one of %v", acrs))
		}
	}
	for _, by := range c.Link {
		say(!slices.Contains([]string{LinkEmail, LinkPhone, LinkLogin}, by), "link is a list of email, phone and login")
	}
	say(c.Trusted && !slices.Contains(c.Link, LinkEmail) && !slices.Contains(c.Link, LinkPhone), "trusted needs link: email or phone")
	for _, d := range c.Domains {
		say(d == "" || strings.ContainsAny(d, "@ ") || strings.ToLower(d) != d, "domains are written in small letters, without @")
	}
	for member := range c.Claims {
		say(!slices.Contains(Members, member), "claims: there is no member "+member)
	}
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("identity provider %q: %w", c.ID, err)
	}
	return nil
}

func goodKey(k *jose.JSONWebKey) bool {
	if k == nil || k.IsPublic() || !k.Valid() || k.KeyID == "" || !slices.Contains(signatures, jose.SignatureAlgorithm(k.Algorithm)) {
		return false
	}
	_, private := k.Key.(crypto.Signer)
	return private
}

// secureURL tells whether an address is https. A browser is sent to some of them, so what package outbound checks is not enough.
func secureURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.Fragment == ""
}
