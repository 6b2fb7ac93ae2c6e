package authz

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
)

// discovery makes the metadata document (RFC 8414 §2, OpenID Connect Discovery §3), which both well-known addresses
// serve. What one profile allows is listed; what each client may use of it, its profile says.
func (s *Server) discovery() ([]byte, error) {
	profiles := fapi.ProfileNames()
	responseModes := []string{"jwt"}
	var authMethods, clientAlgs, responseTypes []string
	for _, name := range profiles {
		p := fapi.FindProfile(name)
		for _, m := range p.ClientAuth {
			authMethods = add(authMethods, string(m))
		}
		for _, alg := range p.Algorithms {
			clientAlgs = add(clientAlgs, string(alg))
		}
		for _, t := range p.ResponseTypes {
			responseTypes = add(responseTypes, t)
		}
		for _, m := range p.ResponseModes {
			responseModes = add(responseModes, m)
		}
	}
	signing := make([]string, 0, 4)
	for _, alg := range s.keys.Algorithms() {
		signing = append(signing, string(alg))
	}
	details := make([]string, 0, len(s.DetailTypes))
	for name := range s.DetailTypes {
		details = append(details, name)
	}
	slices.Sort(details)
	keyAlgs, contentEncs := names(fapi.KeyAlgorithms), names(fapi.ContentEncryptions)

	document := map[string]any{
		"issuer":                                                   s.Issuer,
		"authorization_endpoint":                                   s.Issuer + authorizePath,
		"jwks_uri":                                                 s.Issuer + jwksPath,
		"scopes_supported":                                         s.Scopes,
		"response_types_supported":                                 responseTypes,
		"response_modes_supported":                                 responseModes,
		"grant_types_supported":                                    fapi.GrantTypes(),
		"subject_types_supported":                                  []string{fapi.SubjectPublic, fapi.SubjectPairwise},
		"id_token_signing_alg_values_supported":                    signing,
		"token_endpoint_auth_methods_supported":                    authMethods,
		"token_endpoint_auth_signing_alg_values_supported":         clientAlgs,
		"authorization_signing_alg_values_supported":               signing,
		"userinfo_signing_alg_values_supported":                    signing,
		"introspection_signing_alg_values_supported":               signing,
		"introspection_endpoint_auth_methods_supported":            authMethods,
		"introspection_endpoint_auth_signing_alg_values_supported": clientAlgs,
		"revocation_endpoint_auth_methods_supported":               authMethods,
		"revocation_endpoint_auth_signing_alg_values_supported":    clientAlgs,
		"code_challenge_methods_supported":                         []string{"S256"},
		"dpop_signing_alg_values_supported":                        names(dpopAlgorithms),
		"tls_client_certificate_bound_access_tokens":               true,
		"authorization_response_iss_parameter_supported":           true,
		"authorization_details_types_supported":                    details,
		"acr_values_supported":                                     []string{authn.SCA, authn.CA},
		"claims_parameter_supported":                               true,
		"claims_supported": []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "acr", "amr", "nonce", "sid", "at_hash", "c_hash", "s_hash", "openbanking_intent_id",
			"name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website", "gender",
			"birthdate", "zoneinfo", "locale", "updated_at", "email", "email_verified", "phone_number", "phone_number_verified", "address", "roles", "attributes"},
		"request_parameter_supported":                                     true,
		"request_object_signing_alg_values_supported":                     clientAlgs,
		"request_uri_parameter_supported":                                 true,
		"require_request_uri_registration":                                true,
		"request_object_encryption_alg_values_supported":                  names(s.keys.EncryptionAlgorithms()),
		"request_object_encryption_enc_values_supported":                  contentEncs,
		"prompt_values_supported":                                         []string{"none", "login", "consent", "select_account"},
		"end_session_endpoint":                                            s.Issuer + endSessionPath,
		"backchannel_logout_supported":                                    true,
		"backchannel_logout_session_supported":                            true,
		"ui_locales_supported":                                            []string{"en"},
		"grant_management_actions_supported":                              grantActions,
		"grant_management_action_required":                                false,
		"backchannel_token_delivery_modes_supported":                      []fapi.DeliveryMode{fapi.Poll, fapi.Ping, fapi.Push},
		"backchannel_authentication_request_signing_alg_values_supported": clientAlgs,
		"backchannel_user_code_parameter_supported":                       true,
	}
	for _, what := range []string{"id_token", "userinfo", "authorization", "introspection"} {
		document[what+"_encryption_alg_values_supported"] = keyAlgs
		document[what+"_encryption_enc_values_supported"] = contentEncs
	}
	aliases := map[string]string{}
	for _, e := range backChannelRoutes {
		document[e.metadata] = s.Issuer + e.path
		aliases[e.metadata] = s.MTLSBase + e.path
	}
	document["grant_management_endpoint"], aliases["grant_management_endpoint"] = s.Issuer+grantsPath, s.MTLSBase+grantsPath
	if s.Registration.Mode != RegistrationClosed {
		document["registration_endpoint"], aliases["registration_endpoint"] = s.Issuer+registerPath, s.MTLSBase+registerPath
	}
	document["mtls_endpoint_aliases"] = aliases // RFC 8705 §5
	return json.MarshalIndent(document, "", "  ")
}

func add(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, x := range list {
		out[i] = string(x)
	}
	return out
}

// serveDocument serves a public JSON document.
func (s *Server) serveDocument(document func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body := document()
		h := w.Header()
		h["Content-Type"] = jsonValue
		h["X-Content-Type-Options"] = noSniffValue
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("Access-Control-Allow-Origin", "*") // browser apps read it; it holds nothing private
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
		if r.Method != http.MethodHead {
			w.Write(body)
		}
	}
}
