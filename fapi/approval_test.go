package fapi

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func approvalContext() ApprovalContext { return ApprovalContext{Issuer: issuer, Now: now} }

const deviceName = "0190163d-8694-8f39-a5c3-b9c7a5d1e2f3"

func makeDeviceProof(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, _ := signingKey(alg)
	public := (&jose.JSONWebKey{Key: key}).Public()
	return signJWT(key, alg,
		with(map[string]any{"typ": "approval-device+jwt", "jwk": &public}, header),
		with(map[string]any{"aud": issuer, "sub": "alice", "jti": "one", "iat": now.Unix()}, claims))
}

func makeDecision(alg jose.SignatureAlgorithm, header, claims map[string]any) string {
	key, _ := signingKey(alg)
	return signJWT(key, alg,
		with(map[string]any{"typ": "approval+jwt", "kid": deviceName}, header),
		with(map[string]any{
			"iss": deviceName, "aud": issuer, "jti": "one", "iat": now.Unix(), "approval_id": "request", "decision": "approve", "digest": "digest",
			"amr": []string{"fpt"},
		}, claims))
}

// deviceJWK is what a device with the test's key for the algorithm has registered.
func deviceJWK(alg jose.SignatureAlgorithm) []byte {
	key, _ := signingKey(alg)
	public := (&jose.JSONWebKey{Key: key}).Public()
	return must(public.MarshalJSON())
}

// times are claims that all JWTs of a device have, and whether they do.
var times = []struct {
	name   string
	claims map[string]any
	good   bool
}{
	{"RFC 7519 §4.1.3: aud is an array with the issuer", map[string]any{"aud": []string{"https://other.example", issuer}}, true},
	{"RFC 7519 §4.1.3: refuses another aud", map[string]any{"aud": "https://other.example"}, false},
	{"refuses a missing aud", map[string]any{"aud": nil}, false},
	{"refuses a missing jti", map[string]any{"jti": nil}, false},
	{"accepts a jti of 512 characters", map[string]any{"jti": strings.Repeat("j", 512)}, true},
	{"refuses a jti of 513 characters", map[string]any{"jti": strings.Repeat("j", 513)}, false},
	{"refuses a missing iat", map[string]any{"iat": nil}, false},
	{"accepts an iat of 59 s ago", map[string]any{"iat": now.Unix() - 59}, true},
	{"refuses an iat of 60 s ago", map[string]any{"iat": now.Unix() - 60}, false},
	{"X14: accepts an iat 10 s ahead", map[string]any{"iat": now.Unix() + 10}, true},
	{"X14: refuses an iat 60 s ahead", map[string]any{"iat": now.Unix() + 60}, false},
	{"RFC 7519 §4.1.4: refuses what has expired by its own exp", map[string]any{"iat": now.Unix() - 50, "exp": now.Unix() - 40}, false},
	{"RFC 7519 §4.1.5: refuses an nbf 60 s ahead", map[string]any{"nbf": now.Unix() + 60}, false},
	{"refuses an iat that is text", map[string]any{"iat": "now"}, false},
	{"refuses a payload that is no object", nil, false},
}

func TestCheckDeviceProof(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for _, test := range []struct {
		name  string
		proof string
		good  bool
	}{
		{"ES256", makeDeviceProof(jose.ES256, nil, nil), true},
		{"EdDSA", makeDeviceProof(jose.EdDSA, nil, nil), true},
		{"PS256", makeDeviceProof(jose.PS256, nil, nil), true},
		{"refuses RS256", makeDeviceProof(jose.RS256, nil, nil), false},
		{"RFC 8725 §3.11: refuses a missing typ", makeDeviceProof(jose.ES256, m{"typ": ""}, nil), false},
		{"RFC 8725 §3.11: refuses a DPoP proof", makeDeviceProof(jose.ES256, m{"typ": "dpop+jwt"}, nil), false},
		{"RFC 8725 §3.11: refuses a decision", makeDeviceProof(jose.ES256, m{"typ": "approval+jwt"}, nil), false},
		{"refuses a missing jwk", makeDeviceProof(jose.ES256, m{"jwk": nil}, nil), false},
		{"refuses a private jwk", makeDeviceProof(jose.ES256, m{"jwk": jose.JSONWebKey{Key: ecKey()}}, nil), false},
		{"refuses a symmetric jwk", makeDeviceProof(jose.ES256, m{"jwk": m{"kty": "oct", "k": "AAAA"}}, nil), false},
		{"refuses the jwk of another key", makeDeviceProof(jose.ES256, m{"jwk": jose.JSONWebKey{Key: otherKey().Public()}}, nil), false},
		{"refuses a jwk for encryption", makeDeviceProof(jose.ES256, m{"jwk": jose.JSONWebKey{Key: ecKey().Public(), Use: "enc"}}, nil), false},
		{"refuses another customer", makeDeviceProof(jose.ES256, nil, m{"sub": "bob"}), false},
		{"refuses nobody", makeDeviceProof(jose.ES256, nil, m{"sub": nil}), false},
		{"refuses alg none", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"approval-device+jwt"}`)) + ".e30.", false},
		{"refuses nothing", "", false},
		{"refuses what is too long", makeDeviceProof(jose.ES256, nil, m{"x": strings.Repeat("x", maxApproval)}), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			key, err := CheckDeviceProof(test.proof, "alice", approvalContext())
			if !test.good {
				refused(t, err, InvalidDeviceProof)
				return
			}
			refused(t, err, "")
			var stored map[string]any
			if err := json.Unmarshal(key.JWK, &stored); err != nil || stored["d"] != nil || stored["kty"] == nil || len(key.Thumbprint) != 43 {
				t.Errorf("%s %v, %q", key.JWK, err, key.Thumbprint)
			}
		})
	}
	for _, test := range times {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			proof := makeDeviceProof(jose.ES256, nil, test.claims)
			if test.claims == nil {
				proof = must(must(must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey()}, (&jose.SignerOptions{EmbedJWK: true}).WithType("approval-device+jwt"))).Sign([]byte(`[]`))).CompactSerialize())
			}
			_, err := CheckDeviceProof(proof, "alice", approvalContext())
			refused(t, err, map[bool]Code{false: InvalidDeviceProof}[test.good])
		})
	}
	t.Run("a proof from before the memory of used ones", func(t *testing.T) {
		in := approvalContext()
		in.RememberedSince = now.Add(-Skew)
		_, err := CheckDeviceProof(makeDeviceProof(jose.ES256, nil, m{"iat": now.Unix() - 1}), "alice", in)
		refused(t, err, InvalidDeviceProof)
	})
}

func TestDecision(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	es := func(header, claims m) string { return makeDecision(jose.ES256, header, claims) }
	for _, test := range []struct {
		name  string
		token string
		jwk   []byte
		good  bool
	}{
		{"ES256", es(nil, nil), deviceJWK(jose.ES256), true},
		{"EdDSA", makeDecision(jose.EdDSA, nil, nil), deviceJWK(jose.EdDSA), true},
		{"PS256", makeDecision(jose.PS256, nil, nil), deviceJWK(jose.PS256), true},
		{"refuses RS256", makeDecision(jose.RS256, nil, nil), deviceJWK(jose.PS256), false},
		{"refuses another key", signJWT(otherKey(), jose.ES256, m{"typ": "approval+jwt", "kid": deviceName}, m{"iss": deviceName}), deviceJWK(jose.ES256), false},
		{"refuses a key of another kind", es(nil, nil), deviceJWK(jose.EdDSA), false},
		{"RFC 8725 §3.11: refuses a missing typ", es(m{"typ": ""}, nil), deviceJWK(jose.ES256), false},
		{"RFC 8725 §3.11: refuses a proof of a device", es(m{"typ": "approval-device+jwt"}, nil), deviceJWK(jose.ES256), false},
		{"refuses a missing kid", es(m{"kid": ""}, nil), deviceJWK(jose.ES256), false},
		{"RFC 7515 §4.1.11: refuses crit", es(m{"crit": []string{"b64"}, "b64": true}, nil), deviceJWK(jose.ES256), false},
		{"refuses another iss", es(nil, m{"iss": "other"}), deviceJWK(jose.ES256), false},
		{"refuses a missing iss", es(nil, m{"iss": nil}), deviceJWK(jose.ES256), false},
		{"refuses a missing approval_id", es(nil, m{"approval_id": nil}), deviceJWK(jose.ES256), false},
		{"refuses a missing decision", es(nil, m{"decision": nil}), deviceJWK(jose.ES256), false},
		{"refuses another decision", es(nil, m{"decision": "deny"}), deviceJWK(jose.ES256), false},
		{"PSD2 RTS art. 5: refuses an approval without a digest", es(nil, m{"digest": nil}), deviceJWK(jose.ES256), false},
		{"a refusal needs no digest", es(nil, m{"decision": "refuse", "digest": nil}), deviceJWK(jose.ES256), true},
		{"a report needs no digest", es(nil, m{"decision": "report", "digest": nil}), deviceJWK(jose.ES256), true},
		{"refuses an empty account", es(nil, m{"accounts": []string{""}}), deviceJWK(jose.ES256), false},
		{"refuses accounts that are no list", es(nil, m{"accounts": "12"}), deviceJWK(jose.ES256), false},
		{"refuses too many accounts", es(nil, m{"accounts": slices.Repeat([]string{"1"}, maxAccountsNamed+1)}), deviceJWK(jose.ES256), false},
		{"refuses a number that is no text", es(nil, m{"number": 12}), deviceJWK(jose.ES256), false},
		{"refuses alg none", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"approval+jwt","kid":"x"}`)) + ".e30.", deviceJWK(jose.ES256), false},
		{"refuses alg HS256 with the public key", signJWT(deviceJWK(jose.ES256), jose.HS256, m{"typ": "approval+jwt", "kid": deviceName}, m{"iss": deviceName}), deviceJWK(jose.ES256), false},
		{"refuses nothing", "", deviceJWK(jose.ES256), false},
		{"refuses what is too long", es(nil, m{"x": strings.Repeat("x", maxApproval)}), deviceJWK(jose.ES256), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := checkDecision(test.token, test.jwk, approvalContext())
			refused(t, err, map[bool]Code{false: InvalidDecision}[test.good])
		})
	}
	for _, test := range times {
		if test.claims == nil {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := checkDecision(es(nil, test.claims), deviceJWK(jose.ES256), approvalContext())
			refused(t, err, map[bool]Code{false: InvalidDecision}[test.good])
		})
	}
	t.Run("RFC 8176: only what unlocks a key for one person is a second factor, and once", func(t *testing.T) {
		d, err := checkDecision(es(nil, m{"amr": []string{"pop", "hwk", "user", "mfa", "sms", "pin", "pin", "face"}}), deviceJWK(jose.ES256), approvalContext())
		refused(t, err, "")
		if !slices.Equal(d.Unlocked, []string{"face", "pin"}) {
			t.Errorf("unlocked by %v", d.Unlocked)
		}
	})
	t.Run("a member twice", func(t *testing.T) {
		jws := must(must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: ecKey(), KeyID: deviceName}}, (&jose.SignerOptions{}).WithType("approval+jwt"))).
			Sign([]byte(`{"decision":"refuse","decision":"approve"}`)))
		_, err := checkDecision(must(jws.CompactSerialize()), deviceJWK(jose.ES256), approvalContext())
		refused(t, err, InvalidDecision)
	})
	t.Run("each jti of each device is a use of its own, and other JWTs have others", func(t *testing.T) {
		one := must(checkDecision(es(nil, nil), deviceJWK(jose.ES256), approvalContext())).Use
		if !one.ExpiresAt.Equal(now.Add(time.Minute)) || !one.IssuedAt.Equal(now.Add(-Skew)) {
			t.Errorf("%v", one)
		}
		seen := map[[32]byte]bool{one.Hash: true}
		for _, token := range []string{es(nil, m{"jti": "two"}), es(m{"kid": "other"}, m{"iss": "other"})} {
			hash := must(checkDecision(token, deviceJWK(jose.ES256), approvalContext())).Use.Hash
			if seen[hash] {
				t.Error("the same")
			}
			seen[hash] = true
		}
	})
}

func checkDecision(token string, jwk []byte, in ApprovalContext) (*Decision, error) {
	signed, err := ParseDecision(token)
	if err != nil {
		return nil, err
	}
	return signed.Verify(jwk, in)
}

func FuzzDecision(f *testing.F) {
	f.Add(makeDecision(jose.ES256, nil, nil), `{"iss":"`+deviceName+`","aud":["https://bank.example"],"jti":"a","iat":1772366400.5,"approval_id":"x","decision":"refuse"}`)
	f.Add(makeDeviceProof(jose.ES256, nil, nil), `{"sub":"alice","aud":"https://bank.example","jti":"a","iat":1772366400}`)
	f.Add("..", `{"iat":1e400,"accounts":[null]}`)
	signed := func(claims string, header map[string]any) string {
		options := (&jose.SignerOptions{}).WithHeader("kid", deviceName)
		for name, value := range header {
			options.WithHeader(jose.HeaderKey(name), value)
		}
		return must(must(must(jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: ecKey()}, options)).Sign([]byte(claims))).CompactSerialize())
	}
	public := jose.JSONWebKey{Key: ecKey().Public()}
	f.Fuzz(func(t *testing.T, token, claims string) {
		for _, token := range []string{token, signed(claims, map[string]any{"typ": "approval+jwt"})} {
			d, err := checkDecision(token, deviceJWK(jose.ES256), approvalContext())
			sendable(t, err)
			if err == nil && (d.Approval == "" || d.Answer == AnswerApprove && d.Digest == "" || !d.Use.ExpiresAt.After(now) || d.Use.ExpiresAt.After(now.Add(approvalAge+Skew)) || d.Use.IssuedAt.After(now)) {
				t.Fatalf("accepted with %+v", d)
			}
		}
		for _, proof := range []string{token, signed(claims, map[string]any{"typ": "approval-device+jwt", "jwk": public})} {
			key, err := CheckDeviceProof(proof, "alice", approvalContext())
			sendable(t, err)
			if err == nil && (len(key.Thumbprint) != 43 || !key.Use.ExpiresAt.After(now) || key.Use.IssuedAt.After(now)) {
				t.Fatalf("accepted with %+v", key)
			}
		}
	})
}
