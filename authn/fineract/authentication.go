package fineract

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	strict "github.com/go-jose/go-jose/v4/json"
	"github.com/google/uuid"
)

// authenticated is what a client learns of the customer (AuthenticatedUserData). What a customer has not, such as a staff
// record, is left out.
type authenticated struct {
	Username      string   `json:"username"`
	UserID        int64    `json:"userId"`
	Key           string   `json:"base64EncodedAuthenticationKey,omitempty"`
	AccessToken   string   `json:"accessToken,omitempty"`
	Authenticated bool     `json:"authenticated"`
	OfficeID      int64    `json:"officeId"`
	OfficeName    string   `json:"officeName"`
	Roles         []role   `json:"roles"`
	Permissions   []string `json:"permissions"`
	Clients       *[]int64 `json:"clients,omitempty"`
	RenewPassword bool     `json:"shouldRenewPassword"` // never: our passwords do not expire
	TwoFactor     bool     `json:"isTwoFactorAuthenticationRequired"`
}

type role struct {
	ID          int64  `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Disabled    bool   `json:"disabled"`
}

// headOffice is the office that every Fineract has.
const headOffice = 1

// authenticate answers POST /authentication.
func (c *call) authenticate() (any, error) { return c.logIn(c.flag("returnClientList")) }

// authenticateSelf answers POST /self/authentication.
func (c *call) authenticateSelf() (any, error) { return c.logIn(true) }

func (c *call) logIn(clients bool) (any, error) {
	if err := c.json(); err != nil {
		return nil, err
	}
	members, err := c.object()
	if err != nil {
		return nil, err
	}
	var username, password string
	for name, into := range map[string]*string{"username": &username, "password": &password} {
		if strict.Unmarshal(members[name], into) != nil || *into == "" { // other members are ignored
			return nil, errBody
		}
	}
	customer, err := c.password(username, password)
	if err != nil {
		return nil, err
	}
	if err := c.find(customer, nil); err != nil {
		return nil, err
	}
	a := c.describe(clients)
	a.Username = username
	a.Key = base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
	a.Permissions = c.permissions()
	return a, nil
}

// userDetails answers GET /userdetails, for a client with an access token.
func (c *call) userDetails() (any, error) { return c.details(false) }

// selfDetails answers GET /self/userdetails.
func (c *call) selfDetails() (any, error) { return c.details(true) }

func (c *call) details(clients bool) (any, error) {
	_, token, _ := strings.Cut(c.r.Header.Get("Authorization"), " ")
	if !c.bearer {
		return nil, errNotAuthenticated
	}
	a := c.describe(clients)
	a.AccessToken = strings.TrimSpace(token)
	a.Permissions = append(c.permissions(), "TWOFACTOR_AUTHENTICATED")
	return a, nil
}

func (c *call) describe(clients bool) authenticated {
	customer := &c.visitor.Customer
	a := authenticated{
		Username: c.profile.Username, UserID: number(customer.ID[:]), Authenticated: true,
		OfficeID: headOffice, OfficeName: c.api.Institution, Roles: []role{}, TwoFactor: !c.bypasses(),
	}
	for _, name := range customer.Roles {
		id := uuid.NewSHA1(uuid.Nil, []byte(name))
		a.Roles = append(a.Roles, role{ID: number(id[:]), Name: name, Description: name})
	}
	if clients {
		a.Clients = &[]int64{}
		if customer.FineractClientID != nil {
			a.Clients = &[]int64{*customer.FineractClientID}
		}
	}
	return a
}

func (c *call) permissions() []string {
	all := slices.Sorted(slices.Values(c.visitor.Permissions))
	if all == nil {
		all = []string{}
	}
	return all
}

// number makes one of an id, where clients expect one: always the same, one that JavaScript can write, and so large that it is
// nobody's in Fineract.
func number(id []byte) int64 {
	return int64(binary.BigEndian.Uint64(id[8:])&(1<<51-1) | 1<<51)
}
