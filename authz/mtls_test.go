package authz_test

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"testing"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// A token that is bound to a certificate is good only with that certificate (RFC 8705 §3).
func TestMTLS_StolenTokens(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, id := range []string{"tpp", "tpp-jwt", "tpp-mtls", "tpp-self"} {
		c := s.Client(id)
		token := c.Grant(t, nil)["access_token"].(string)
		pem := base64.StdEncoding.EncodeToString(c.Certificate.Certificate[0])
		for _, thief := range []struct {
			name   string
			client func() *authztest.Client
			header http.Header
		}{
			{"MTLS-04: without a certificate", func() *authztest.Client { return s.Client("web") }, nil},
			{"MTLS-04: without a certificate, at the listener that asks for one", func() *authztest.Client { return nil }, nil},
			{"MTLS-04: with the certificate of another client", func() *authztest.Client { return s.Client("bank-api") }, nil},
			{"with another certificate of the same name", func() *authztest.Client { k := s.Client(id); k.Certificate = s.Certificate(t, id); return k }, nil},
			{"with a self-signed one", func() *authztest.Client {
				k := s.Client(id)
				k.Certificate = authztest.SelfSigned(t, id)
				return k
			}, nil},
			{"with a certificate in a header", func() *authztest.Client { return s.Client("web") }, http.Header{
				"X-Client-Cert": {pem}, "X-Ssl-Client-Cert": {pem}, "X-Forwarded-Client-Cert": {"Cert=" + pem}, "Client-Cert": {":" + pem + ":"},
			}},
		} {
			t.Run(id+" "+thief.name, func(t *testing.T) {
				header := http.Header{"Authorization": {"Bearer " + token}}
				for name, values := range thief.header {
					header[name] = values
				}
				k := thief.client()
				if k == nil {
					r, err := http.NewRequestWithContext(t.Context(), "GET", s.MTLSBase+"/userinfo", nil)
					if err != nil {
						t.Fatal(err)
					}
					r.Header = header
					authztest.Do(t, s.Client("web").HTTP(), r).Challenged(t, 401, "Bearer", fapi.InvalidToken)
					return
				}
				k.Raw(t, "GET", "/userinfo", "", header).Challenged(t, 401, "Bearer", fapi.InvalidToken)
			})
		}
		t.Run(id+" its owner", func(t *testing.T) {
			if answer := c.Get(t, "/userinfo", token); answer.Status != http.StatusOK {
				t.Errorf("answered %d %s", answer.Status, answer.Header)
			}
			said := s.Client("bank-api").Post(t, "/introspect", url.Values{"token": {token}})
			if cnf, _ := said.JSON["cnf"].(map[string]any); cnf["x5t#S256"] != fapi.CertificateThumbprint(c.Certificate.Leaf) || said.JSON["token_type"] != "Bearer" {
				t.Errorf("MTLS-03: %s", said.Body)
			}
		})
	}
}

func TestMTLS_Binding(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	t.Run("a code waits for the certificate", func(t *testing.T) {
		c, bare := s.Client("tpp"), s.Client("tpp")
		bare.Certificate = nil
		code := s.Approve(t, c, c.Push(t, nil))
		bare.Post(t, "/token", bare.ExchangeForm(code)).Refused(t, 400, fapi.InvalidRequest)
		c.Exchange(t, code)
	})
	t.Run("MTLS-06: a confidential client may come back with a new certificate", func(t *testing.T) {
		c, renewed := s.Client("tpp"), s.Client("tpp")
		renewed.Certificate = s.Certificate(t, "tpp")
		tokens := c.Grant(t, nil)
		again := renewed.Token(t, refreshed(tokens["refresh_token"]))["access_token"].(string)
		if answer := renewed.Get(t, "/userinfo", again); answer.Status != http.StatusOK {
			t.Errorf("the new certificate: %d", answer.Status)
		}
		c.Get(t, "/userinfo", again).Challenged(t, 401, "Bearer", fapi.InvalidToken)
	})
	t.Run("a certificate beside the proof does not replace it", func(t *testing.T) {
		c := s.Client("tpp-dpop")
		c.Certificate, c.DPoPKey = s.Certificate(t, "tpp-dpop"), nil
		c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).Refused(t, 400, fapi.InvalidDPoPProof)
	})
	t.Run("nor a proof the certificate of a client that said so", func(t *testing.T) {
		c := s.Client("tpp")
		c.Certificate, c.DPoPKey = nil, authztest.NewKey(t)
		c.Post(t, "/token", url.Values{"grant_type": {"client_credentials"}}).Refused(t, 400, fapi.InvalidRequest)
	})
	t.Run("F2-01: a FAPI client that said neither must bind by either", func(t *testing.T) {
		c := s.AddClient(t, "tpp-either", fapi.FAPI2, fapi.PrivateKeyJWT, nil)
		cc := url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}}
		c.Post(t, "/token", cc).Refused(t, 400, fapi.InvalidRequest)
		c.Certificate = s.Certificate(t, "tpp-either")
		if tokens := c.Token(t, cc); tokens["token_type"] != "Bearer" {
			t.Errorf("by certificate: %v", tokens["token_type"])
		}
		c.Certificate, c.DPoPKey = nil, authztest.NewKey(t)
		if tokens := c.Token(t, cc); tokens["token_type"] != "DPoP" {
			t.Errorf("by proof: %v", tokens["token_type"])
		}
	})
}
