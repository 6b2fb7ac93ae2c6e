package engine

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// hybridHandler answers requests for tokens, with a code or without (OpenID Connect Core §3.2, §3.3). fosite's own handlers
// know neither s_hash nor EdDSA, and want a grant type that hybrid clients need not have.
type hybridHandler struct {
	e     *Engine
	codes *oauth2.AuthorizeExplicitGrantHandler
}

func (h hybridHandler) HandleAuthorizeEndpointRequest(ctx context.Context, r fosite.AuthorizeRequester, response fosite.AuthorizeResponder) error {
	asked := r.GetResponseTypes()
	if asked.ExactOne("code") {
		return nil
	}
	if asked.Has("code") {
		if err := h.codes.IssueAuthorizeCode(ctx, r, response); err != nil {
			return err
		}
	}
	c, s := callOf(ctx), r.GetSession().(*session)
	if asked.Has("token") {
		token, _, err := h.e.GenerateAccessToken(ctx, r)
		if err != nil {
			return err
		}
		response.AddParameter("access_token", token)
		response.AddParameter("token_type", "Bearer")
		response.AddParameter("expires_in", strconv.FormatInt(int64(c.client.Rules().AccessTokenLifetime/time.Second), 10))
		response.AddParameter("scope", strings.Join(r.GetGrantedScopes(), " "))
		r.SetResponseTypeHandled("token")
	}
	if asked.Has("id_token") {
		if !r.GetGrantedScopes().Has("openid") {
			return fapi.Refuse(fapi.InvalidScope, "The response_type asks for an ID token, openid was not granted.")
		}
		token, err := h.e.idToken(c, s)
		if err != nil {
			return err
		}
		response.AddParameter("id_token", token)
		r.SetResponseTypeHandled("id_token")
	}
	return nil
}

// approved returns what the tokens of a fresh approval say. The store is asked only for one that speaks of the customer,
// of the consent or of a grant that its client manages: the approval does not.
func (e *Engine) approved(ctx context.Context, c *fapi.Client, r *fapi.AuthorizationRequest, a *storage.Authorization) (*storage.Live, error) {
	asked := strings.Fields(r.ResponseType)
	access := contains(asked, "token") && (c.AccessTokenFormat == fapi.JWT || r.GrantAction != "")
	personal := contains(asked, "id_token") && (c.IDTokenEncryptedResponseAlg != "" && r.Claims != nil || len(asked) == 1)
	if !access && !personal {
		return &storage.Live{Authorization: *a}, nil
	}
	return e.Within(e.db.LoadLive(ctx, nil, a.ID, c.ID, ""))
}
