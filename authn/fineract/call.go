package fineract

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	strict "github.com/go-jose/go-jose/v4/json" // exact member names, duplicates refused
	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

const (
	tenantHeader = "Fineract-Platform-TenantId"

	// TokenHeader has the token that shows the second factor.
	TokenHeader = "Fineract-Platform-TFA-Token"

	bypass = "BYPASS_TWOFACTOR" // a permission; ALL_FUNCTIONS and roles do not imply it

	maxBody  = 64 << 10
	maxToken = 128 // bytes of a token that is looked at; ours have 32
)

// call is one call of the API.
type call struct {
	api     *API
	w       http.ResponseWriter
	r       *http.Request
	path    string                   // of the route
	bearer  bool                     // the first factor was an access token
	visitor *storage.FineractVisitor // nil while nobody is authenticated
	profile storage.Profile
}

// admit is every check before the answer, in Fineract's order.
func (c *call) admit(needs need) error {
	if c.tenant() != c.api.tenant {
		return c.sent(http.StatusBadRequest, realm)
	}
	if needs == nothing {
		return nil
	}
	customer, err := c.firstFactor()
	if err != nil {
		return err
	}
	tokens := c.r.Header.Values(TokenHeader)
	var hash []byte
	if len(tokens) == 1 && len(tokens[0]) <= maxToken {
		hash = TokenHash(tokens[0])
	}
	if err := c.find(customer, hash); err != nil {
		return err
	}
	switch {
	case c.bypasses(), c.visitor.TokenEnds != nil:
		return nil
	case len(tokens) > 0: // also where no second factor is due
		return c.sent(http.StatusUnauthorized, realmTwoFactor)
	case needs == first:
		return nil
	case c.bearer:
		return errInsufficient
	}
	return c.sent(http.StatusForbidden, "")
}

// TokenHash is what the store knows of a token.
func TokenHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// tenant is the one that the call names, in its header or else in its query. One that names two names none.
func (c *call) tenant() string {
	named := c.r.Header.Values(tenantHeader)
	if len(named) == 0 || len(named) == 1 && strings.TrimSpace(named[0]) == "" {
		named = c.r.URL.Query()["tenantIdentifier"]
	}
	if len(named) != 1 {
		return ""
	}
	return named[0]
}

// firstFactor tells who has shown the first factor.
func (c *call) firstFactor() (customer uuid.UUID, err error) {
	headers := c.r.Header.Values("Authorization")
	if len(headers) != 1 {
		return customer, errNotAuthenticated
	}
	if username, password, ok := c.r.BasicAuth(); ok {
		return c.password(username, password)
	}
	c.bearer = true
	customer, err = c.api.Bearer(c.w, c.r)
	if err == nil && customer == uuid.Nil {
		err = errNotAuthenticated
	}
	return customer, err
}

func (c *call) password(username, password string) (uuid.UUID, error) {
	customer, err := c.api.passwords.Check(c.r, username, password)
	switch {
	case errors.Is(err, authn.ErrRefused):
		err = errNotAuthenticated
	case errors.Is(err, authn.ErrBusy):
		err = errBusy
		c.api.Authn.Refused("password", "busy")
	}
	return customer, err
}

// find looks a customer up who has shown the first factor.
func (c *call) find(customer uuid.UUID, token []byte) error {
	v, err := c.api.DB.FineractVisitor(c.r.Context(), c.api.tenant, customer, token)
	if errors.Is(err, storage.ErrNotFound) {
		return errNotAuthenticated
	}
	if err != nil {
		return err
	}
	c.visitor = v
	c.profile, err = v.Customer.Profile()
	return err
}

// Bypasses tells whether a customer needs no second factor: if that permission was granted by its name.
func Bypasses(v *storage.FineractVisitor) bool { return slices.Contains(v.Permissions, bypass) }

func (c *call) bypasses() bool { return Bypasses(c.visitor) }

// granted tells whether the customer has one of the permissions by name.
func (c *call) granted(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(c.visitor.Permissions, name) })
}

func (c *call) hasRole(name string) bool { return slices.Contains(c.visitor.Customer.Roles, name) }

// parameter reads a parameter of the query: "" if it is missing, or there more than once.
func (c *call) parameter(name string) string {
	values := c.r.URL.Query()[name]
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

func (c *call) flag(name string) bool { return strings.EqualFold(c.parameter(name), "true") }

// object reads the body as a JSON object.
func (c *call) object() (map[string]strict.RawMessage, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return nil, &problem{status: http.StatusRequestEntityTooLarge, body: errBody.body}
		}
		return nil, errBody
	}
	members := map[string]strict.RawMessage(nil)
	if len(bytes.TrimSpace(body)) == 0 || strict.Unmarshal(body, &members) != nil || members == nil {
		return nil, errBody
	}
	return members, nil
}

// json demands the media type of a body.
func (c *call) json() error {
	mediaType, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return c.sent(http.StatusUnsupportedMediaType, "")
	}
	return nil
}

// text reads a member that is a string, a number or a boolean, as Fineract does: null, lists and objects are none.
func text(member strict.RawMessage) (string, bool) {
	var value any
	decoder := strict.NewDecoder(bytes.NewReader(member))
	decoder.SetNumberType(strict.UnmarshalJSONNumber)
	if decoder.Decode(&value) != nil {
		return "", false
	}
	switch v := value.(type) {
	case string:
		return v, true
	case strict.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	}
	return "", false
}
