package authz_test

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
)

// addBackchannel registers an openid client that may use CIBA; more replaces its metadata.
func addBackchannel(t *testing.T, s *authztest.Server, id string, method fapi.AuthMethod, mode fapi.DeliveryMode, more map[string]any) *authztest.Client {
	t.Helper()
	all := map[string]any{"grant_types": []string{"authorization_code", "refresh_token", fapi.GrantCIBA}, "backchannel_token_delivery_mode": mode}
	for name, value := range more {
		all[name] = value
	}
	c := s.AddClient(t, id, fapi.OpenID, method, all)
	c.Scope = "openid accounts offline_access"
	return c
}

// backchannelForm is a request for alice; more replaces its parameters.
func backchannelForm(c *authztest.Client, more url.Values) url.Values {
	form := url.Values{"scope": {c.Scope}, "login_hint": {authztest.Username}, "binding_message": {"W4SCT"}, "client_notification_token": {rand.Text()}}
	for name, values := range more {
		form[name] = values
	}
	return form
}

// backchannelRequest is what a client got for its request.
type backchannelRequest struct {
	authReqID string
	answer    map[string]any
}

func beginBackchannel(t *testing.T, c *authztest.Client, more url.Values) backchannelRequest {
	t.Helper()
	answer := c.Post(t, "/bc-authorize", backchannelForm(c, more))
	if answer.Status != http.StatusOK {
		t.Fatalf("bc-authorize answered %d %s", answer.Status, answer.Body)
	}
	id, _ := answer.JSON["auth_req_id"].(string)
	return backchannelRequest{id, answer.JSON}
}

func backchannelPoll(b backchannelRequest) url.Values {
	return url.Values{"grant_type": {fapi.GrantCIBA}, "auth_req_id": {b.authReqID}}
}

func pollBackchannel(t *testing.T, c *authztest.Client, b backchannelRequest) *authztest.Answer {
	t.Helper()
	return c.Post(t, "/token", backchannelPoll(b))
}

// authorizationOf finds the row of a request.
func authorizationOf(t *testing.T, s *authztest.Server, b backchannelRequest) (id uuid.UUID) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), `SELECT id FROM authorizations WHERE code_hash = $1`, engine.CodeHash(b.authReqID)).Scan((*[16]byte)(&id)); err != nil {
		t.Fatal(err)
	}
	return id
}

// openBackchannel opens a request in a browser and logs in, up to the page that asks.
func openBackchannel(t *testing.T, s *authztest.Server, browser *authztest.Browser, c *authztest.Client, b backchannelRequest) *authztest.Page {
	t.Helper()
	page := browser.Open(t, s.ApprovalURL(c.ID, authorizationOf(t, s, b)))
	if page.ID() == "login_page" {
		page = browser.Login(t, page)
	}
	return page
}

func decideBackchannel(t *testing.T, s *authztest.Server, c *authztest.Client, b backchannelRequest, decision string) *authztest.Page {
	t.Helper()
	browser := s.Browser(t)
	return browser.Decide(t, openBackchannel(t, s, browser, c, b), decision, "12").Is(t, "done_page")
}

// CIBA Core, from the request to the tokens.
func TestBackchannel_Flow(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	c := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	b := beginBackchannel(t, c, nil)
	pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.AuthorizationPending)
	decideBackchannel(t, s, c, b, "approve")
	answer := pollBackchannel(t, c, b)
	if answer.Status != http.StatusOK || answer.JSON["id_token"] == nil || answer.JSON["refresh_token"] == nil {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	pollBackchannel(t, c, b).Refused(t, http.StatusBadRequest, fapi.InvalidGrant)
}
