package fapi

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
)

// clientRules are the requirements on clients, in the order of their reports. What they demand is in the columns of
// the profile table, and judged by ParseClient: here stands which clause says so, and what to tell of it.
var clientRules = []clientRule{
	{
		id: "client-authentication", words: "Client authentication", wants: func(p *Profile) string { return list(p.ClientAuth) },
		clauses: map[ProfileName]string{OpenID: "OpenID Connect Core §9", FAPI1Baseline: "FAPI 1.0 Part 1 §5.2.2-4", FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-14", FAPI2: "FAPI 2.0 SP §5.3.2.1-6"},
		members: []string{"token_endpoint_auth_method"},
		found:   func(c *Client) string { return string(c.TokenEndpointAuthMethod) },
		judge: func(c *Client) (Verdict, string) {
			if c.TokenEndpointAuthMethod == ClientSecretBasic || c.TokenEndpointAuthMethod == ClientSecretPost {
				return Advice, "private_key_jwt or mutual TLS leave no secret to lose (RFC 9700 §2.5)"
			}
			return OK, ""
		},
	}, {
		id: "confidential-client", words: "Only confidential clients",
		clauses: map[ProfileName]string{FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-16", FAPICIBA: "FAPI-CIBA §5.2.2-1", FAPI2: "FAPI 2.0 SP §5.3.2.1-3"},
		judge: func(c *Client) (Verdict, string) {
			if c.Public() {
				return Failed, "register a token_endpoint_auth_method that authenticates, and keys or a certificate for it"
			}
			return OK, ""
		},
	}, {
		id: "client-keys", words: fmt.Sprintf("Keys: public, RSA with %d bits or more, EC on P-256 or a larger curve", minRSABits),
		clauses: map[ProfileName]string{OpenID: "RFC 8725 §3.2", FAPI1Baseline: "FAPI 1.0 Part 1 §5.2.2-5, -6", FAPI1Advanced: "FAPI 1.0 Part 1 §5.2.2-5, -6", FAPI2: "FAPI 2.0 SP §5.4.1-2, -3"},
		members: []string{"jwks", "jwks_uri", "tls_client_auth_subject_dn"},
		found:   keysFound,
		judge: func(c *Client) (Verdict, string) {
			if c.JWKSURI != "" {
				return Enforced, "weaker keys at the jwks_uri are left out when they are fetched"
			}
			return OK, ""
		},
	}, {
		id: "signing-algorithms", words: "Signatures", wants: func(p *Profile) string { return list(p.Algorithms) },
		clauses: map[ProfileName]string{OpenID: "RFC 8725 §3.1", FAPI1Baseline: "RFC 8725 §3.1", FAPI1Advanced: "FAPI 1.0 Part 2 §8.6", FAPI2: "FAPI 2.0 SP §5.4.1-1"},
		members: []string{
			"token_endpoint_auth_signing_alg", "request_object_signing_alg", "id_token_signed_response_alg",
			"userinfo_signed_response_alg", "authorization_signed_response_alg", "introspection_signed_response_alg",
			"backchannel_authentication_request_signing_alg",
		},
		found: func(c *Client) string { return "ID token " + string(c.IDTokenSignedResponseAlg) },
	}, {
		id: "encryption-algorithms", words: "Encryption, if any", wants: func(*Profile) string { return list(KeyAlgorithms) + " with " + list(ContentEncryptions) },
		clauses: map[ProfileName]string{OpenID: "OpenID Connect Registration §2", FAPI1Baseline: "OpenID Connect Registration §2", FAPI1Advanced: "FAPI 1.0 Part 2 §8.6.1", FAPI2: "OpenID Connect Registration §2"},
		members: encryptionMembers(),
	}, {
		id: "assertion-audience", words: "The aud of client assertions",
		clauses: map[ProfileName]string{OpenID: "RFC 7523 §3", FAPI1Baseline: "RFC 7523 §3", FAPI1Advanced: "RFC 7523 §3", FAPI2: "FAPI 2.0 SP §5.3.2.1-8"},
		applies: func(c *Client) bool { return c.TokenEndpointAuthMethod == PrivateKeyJWT },
		wants: func(p *Profile) string {
			if p.AssertionAudience == IssuerOnly {
				return "the issuer, as one string"
			}
			return "the issuer, the token endpoint or the endpoint called"
		},
		judge: enforced("the client's assertions must have that aud"),
	}, {
		id: "grant-types", words: "No password and no implicit grant",
		clauses: map[ProfileName]string{OpenID: "RFC 9700 §2.1.2, §2.4", FAPI1Baseline: "RFC 9700 §2.1.2, §2.4", FAPI1Advanced: "RFC 9700 §2.1.2, §2.4", FAPI2: "FAPI 2.0 SP §5.3.2.1-2"},
		members: []string{"grant_types"},
		found:   func(c *Client) string { return list(c.GrantTypes) },
	}, {
		id: "response-types", words: "Response types", wants: func(p *Profile) string { return strings.Join(p.ResponseTypes, ", ") },
		clauses: map[ProfileName]string{OpenID: "OpenID Connect Core §3", FAPI1Baseline: "FAPI 1.0 Part 1 §5.2.2.1", FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-2", FAPI2: "FAPI 2.0 SP §5.3.2.2-1"},
		applies: usesBrowser,
		members: []string{"response_types", "response_modes"},
		found:   func(c *Client) string { return strings.Join(c.ResponseTypes, ", ") },
	}, {
		id: "redirect-uris", words: "Redirect URIs are registered whole",
		clauses: map[ProfileName]string{OpenID: "RFC 9700 §2.1", FAPI1Baseline: "FAPI 1.0 Part 1 §5.2.2-8, -20", FAPI1Advanced: "FAPI 1.0 Part 1 §5.2.2-8, -20", FAPI2: "FAPI 2.0 SP §5.3.2.2-8"},
		applies: usesBrowser,
		wants: func(p *Profile) string {
			if p.HTTPSRedirect {
				return "https"
			}
			return "https, http on the loopback address, or a private scheme"
		},
		members: []string{"redirect_uris"},
		found:   func(c *Client) string { return list(c.RedirectURIs) },
	}, {
		id: "pushed-requests", words: "Authorization requests are pushed",
		clauses: map[ProfileName]string{FAPI2: "FAPI 2.0 SP §5.3.2.2-3"},
		applies: usesBrowser,
		judge:   enforced("the client must send its requests to /par (RFC 9126)"),
	}, {
		id: "pkce", words: "PKCE with S256",
		clauses: map[ProfileName]string{OpenID: "RFC 9700 §2.1.1", FAPI1Baseline: "FAPI 1.0 Part 1 §5.2.2-7", FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-18", FAPI2: "FAPI 2.0 SP §5.3.2.2-5"},
		applies: usesBrowser,
		judge: func(c *Client) (Verdict, string) {
			switch {
			case c.MustPKCE():
				return Enforced, "the client must send a code_challenge with every request"
			case c.profile.PKCE == WhenPushed:
				return Enforced, "the client must send a code_challenge with requests that it pushes"
			}
			return Advice, "send a code_challenge with every request"
		},
	}, {
		id: "nonce-or-state", words: "A nonce with the scope openid, a state without it",
		clauses: map[ProfileName]string{FAPI1Baseline: "FAPI 1.0 Part 1 §5.2.2.2, §5.2.2.3", FAPI1Advanced: "FAPI 1.0 Part 1 §5.2.2.2, §5.2.2.3"},
		applies: usesBrowser,
		judge:   enforced("the client must send it with every request"),
	}, {
		id: "signed-requests", words: "Authorization requests are signed (RFC 9101)",
		clauses: map[ProfileName]string{FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-1", FAPI2MessageSigning: "FAPI 2.0 MS §5.3.1-1"},
		applies: usesBrowser,
		judge: func(c *Client) (Verdict, string) {
			if c.JWKSURI == "" && !c.canVerify(c.aux.requestObjectAlgs) {
				return Failed, fmt.Sprintf("jwks needs a public key for one of %s", list(c.aux.requestObjectAlgs))
			}
			return Enforced, "the client must send request objects signed with one of " + list(c.aux.requestObjectAlgs)
		},
	}, {
		id: "request-object-claims", words: "aud, nbf and exp of request objects, within an hour",
		clauses: map[ProfileName]string{FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-13, -15, -17", FAPI2MessageSigning: "FAPI 2.0 MS §5.3.1-2, -3, -4"},
		applies: usesBrowser,
		judge:   enforced("the client's request objects must have the issuer as aud, and live an hour at most"),
	}, {
		id: "signed-answers", words: "Authorization responses are signed (JARM)",
		clauses: map[ProfileName]string{FAPI2MessageSigning: "FAPI 2.0 MS §5.4.2-1"},
		applies: usesBrowser,
		found:   func(c *Client) string { return "response_modes " + orNothing(c.ResponseModes) },
		judge: func(c *Client) (Verdict, string) {
			if len(c.ResponseModes) > 0 && !slices.ContainsFunc(c.ResponseModes, func(m string) bool { return !isJARM(m) }) {
				return OK, ""
			}
			return Advice, "register response_modes [jwt], where the ecosystem wants signed answers: then no others are sent"
		},
	}, {
		id: "sender-constrained-tokens", words: "Access tokens are bound to the client", wants: func(p *Profile) string { return "by " + list(p.Bindings) },
		clauses: map[ProfileName]string{OpenID: "RFC 9700 §2.2.1", FAPI1Baseline: "RFC 9700 §2.2.1", FAPI1Advanced: "FAPI 1.0 Part 2 §5.2.2-5, -6", FAPI2: "FAPI 2.0 SP §5.3.2.1-4, -5"},
		members: []string{"tls_client_certificate_bound_access_tokens", "dpop_bound_access_tokens"},
		found:   bindingFound,
		judge: func(c *Client) (Verdict, string) {
			if c.MustBind() {
				return Enforced, "the client must show its certificate, or send DPoP proofs where they are allowed, with token and API requests"
			}
			return Advice, "register tls_client_certificate_bound_access_tokens or dpop_bound_access_tokens"
		},
	}, {
		id: "ciba-delivery", words: "CIBA: how the client learns what was decided", wants: func(p *Profile) string { return list(p.CIBA) },
		clauses: map[ProfileName]string{OpenID: "CIBA Core §4, §5", FAPICIBA: "FAPI-CIBA §5.2.2-3, -4, -5"},
		applies: usesCIBA,
		members: []string{"backchannel_token_delivery_mode", "backchannel_client_notification_endpoint", "backchannel_client_notification_mtls"},
		found:   deliveryFound,
		judge: func(c *Client) (Verdict, string) {
			if c.BackchannelTokenDeliveryMode == Push {
				return Advice, "register ping: tokens that are fetched can be bound, and do not travel to an address"
			}
			return OK, ""
		},
	}, {
		id: "ciba-signed-requests", words: "CIBA requests are signed",
		clauses: map[ProfileName]string{OpenID: "CIBA Core §7.1.1", FAPICIBA: "FAPI-CIBA §5.2.2-6"},
		applies: usesCIBA,
		judge: func(c *Client) (Verdict, string) {
			switch {
			case !c.MustSignBackchannel():
				return Advice, "register backchannel_authentication_request_signing_alg: then nobody else can ask in the client's name"
			case c.JWKSURI == "" && !c.canVerify(c.aux.backchannelAlgs):
				return Failed, "jwks needs a public key for one of " + list(c.aux.backchannelAlgs)
			}
			return Enforced, "the client must send authentication requests signed with one of " + list(c.aux.backchannelAlgs)
		},
	}, {
		id: "ciba-request-claims", words: "iss, aud, jti, iat, nbf and exp of signed CIBA requests, within an hour",
		clauses: map[ProfileName]string{OpenID: "CIBA Core §7.1.1", FAPICIBA: "FAPI-CIBA §5.2.2-9"},
		applies: (*Client).signsBackchannel,
		judge:   enforced("the client's signed requests must have all six, the issuer as aud, a jti of their own, and live an hour at most"),
	}, {
		id: "ciba-context", words: "CIBA requests say what is approved",
		clauses: map[ProfileName]string{FAPICIBA: "FAPI-CIBA §5.2.2-2"},
		applies: usesCIBA,
		judge:   enforced("the client must send a binding_message, or authorization_details or a consent"),
	},
}

func enforced(duty string) func(*Client) (Verdict, string) {
	return func(*Client) (Verdict, string) { return Enforced, duty }
}

func usesBrowser(c *Client) bool { return c.Redirects() }

func usesCIBA(c *Client) bool { return c.MayUse(GrantCIBA) }

func deliveryFound(c *Client) string {
	if !c.BackchannelTokenDeliveryMode.Notifies() {
		return string(c.BackchannelTokenDeliveryMode)
	}
	return string(c.BackchannelTokenDeliveryMode) + " to " + c.BackchannelClientNotificationEndpoint
}

func isJARM(mode string) bool { return mode == "jwt" || strings.HasSuffix(mode, ".jwt") }

func list[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}

func orNothing(values []string) string {
	if len(values) == 0 {
		return "(all)"
	}
	return list(values)
}

func encryptionMembers() (members []string) {
	for _, e := range (&Client{}).encryptions() {
		members = append(members, e.name+"_alg", e.name+"_enc")
	}
	return members
}

func bindingFound(c *Client) string {
	var ways []string
	if c.CertificateBoundAccessTokens {
		ways = append(ways, "tls_client_certificate_bound_access_tokens")
	}
	if c.DPoPBoundAccessTokens {
		ways = append(ways, "dpop_bound_access_tokens")
	}
	if len(ways) == 0 {
		return "neither is registered"
	}
	return list(ways)
}

// keysFound describes the keys: their kind, size and kid.
func keysFound(c *Client) string {
	if c.JWKSURI != "" {
		return "at " + c.JWKSURI
	}
	if c.JWKS == nil {
		return "none registered"
	}
	var texts []string
	for _, k := range c.JWKS.Keys {
		kind := "unknown"
		switch key := k.Key.(type) {
		case *rsa.PublicKey:
			kind = fmt.Sprintf("RSA %d", key.N.BitLen())
		case *ecdsa.PublicKey:
			kind = key.Curve.Params().Name
		case ed25519.PublicKey:
			kind = "Ed25519"
		}
		texts = append(texts, fmt.Sprintf("%s (%q)", kind, k.KeyID))
	}
	return strings.Join(texts, ", ")
}
