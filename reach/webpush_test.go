package reach_test

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"github.com/countersign/countersign/outbound"
	"github.com/countersign/countersign/reach"
)

func decode(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 8291 §5 and Appendix A.
func TestEncrypt_RFC8291Vector(t *testing.T) {
	t.Parallel()
	browser, err := reach.ParseSubscription([]byte(`{"endpoint": "https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV", "keys": {
		"p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}`))
	if err != nil {
		t.Fatal(err)
	}
	ephemeral, err := ecdh.P256().NewPrivateKey(decode(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := browser.EncryptWith(ephemeral, decode(t, "DGv6ra1nlYgDCS1FRnbzlw"), []byte("When I grow up, I want to be a watermelon"))
	want := "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_" +
		"yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if got := base64.RawURLEncoding.EncodeToString(body); err != nil || got != want {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
}

func TestParseSubscription(t *testing.T) {
	t.Parallel()
	b := subscribe(t, "https://push.example/x")
	point, auth := base64.RawURLEncoding.EncodeToString(b.key.PublicKey().Bytes()), base64.RawURLEncoding.EncodeToString(b.auth)
	document := func(endpoint, point, auth string) string {
		return `{"endpoint":"` + endpoint + `","keys":{"p256dh":"` + point + `","auth":"` + auth + `"}}`
	}
	for name, test := range map[string]struct {
		document string
		ok       bool
	}{
		"as browsers write it":  {document("https://push.example/x", point, auth), true},
		"with padding":          {document("https://push.example/x", point+"=", auth+"=="), true},
		"http":                  {document("http://push.example/x", point, auth), false},
		"no host":               {document("https:///x", point, auth), false},
		"another scheme":        {document("javascript:alert(1)", point, auth), false},
		"a user":                {document("https://a:b@push.example/x", point, auth), false},
		"too long":              {document("https://push.example/"+strings.Repeat("x", 2048), point, auth), false},
		"too large":             {document("https://push.example/x", point, auth) + strings.Repeat(" ", 4096), false},
		"not on the curve":      {document("https://push.example/x", "B"+strings.Repeat("A", 86), auth), false},
		"the point at infinity": {document("https://push.example/x", "AA", auth), false},
		"a compressed point":    {document("https://push.example/x", base64.RawURLEncoding.EncodeToString(append([]byte{2}, b.key.PublicKey().Bytes()[1:33]...)), auth), false},
		"no auth":               {document("https://push.example/x", point, ""), false},
		"a long auth":           {document("https://push.example/x", point, auth+"AAAA"), false},
		"not base64url":         {document("https://push.example/x", point, "!"+auth[1:]), false},
		"no JSON":               {"x", false},
		"nothing":               {"", false},
	} {
		_, err := reach.ParseSubscription([]byte(test.document))
		if test.ok != (err == nil) || err != nil && !errors.Is(err, reach.ErrSubscription) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// forgotten remembers what was to be forgotten.
type forgotten []string

func (f *forgotten) forget(_ context.Context, customer uuid.UUID, endpoint string) error {
	*f = append(*f, customer.String()+" "+endpoint)
	return nil
}

func newWebPush(t *testing.T, calls reach.Poster, f *forgotten) *reach.WebPush {
	t.Helper()
	w, err := reach.NewWebPush(calls, make([]byte, 32), "https://bank.example", f.forget)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// All replicas, and the same one after a restart, have the key that browsers subscribed to.
func TestWebPush_TheKeyIsThatOfTheSeed(t *testing.T) {
	t.Parallel()
	seed := func(b byte) []byte { return append(make([]byte, 31), b) }
	key := func(seed []byte) string {
		w, err := reach.NewWebPush(nil, seed, "https://bank.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		point := decode(t, w.PublicKey())
		if _, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil || len(point) != 65 {
			t.Errorf("%d bytes, %v", len(point), err)
		}
		return w.PublicKey()
	}
	if one, again := key(seed(1)), key(seed(1)); one != again || one == key(seed(2)) {
		t.Error("the key is not that of the seed")
	}
	over := make([]byte, 32) // more than the order of the curve
	for i := range over {
		over[i] = 0xff
	}
	if one, again := key(over), key(over); one != again || one == key(seed(0)) {
		t.Error("a seed that is no scalar")
	}
}

// RFC 8030 §5, RFC 8292 §2 and §3. What it says, independent_test.go reads.
func TestWebPush_Request(t *testing.T) {
	t.Parallel()
	s := serve(t)
	w := newWebPush(t, s.outbound(loopback), &forgotten{})
	b := subscribe(t, s.URL+"/push/abc")
	m := approval()
	m.To.Browsers = []reach.Subscription{b.Subscription}
	for range 2 {
		if err := w.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	p := s.got()[0]
	if ttl, err := strconv.Atoi(p.header.Get("TTL")); err != nil || ttl < 290 || ttl > 300 {
		t.Errorf("TTL %q", p.header.Get("TTL"))
	}
	if p.path != "/push/abc" || p.header.Get("Urgency") != "high" || p.header.Get("Topic") != "" || p.header.Get("Content-Encoding") != "aes128gcm" {
		t.Errorf("%s %v", p.path, p.header)
	}
	if string(p.body[:16]) == string(s.got()[1].body[:16]) || string(p.body[21:86]) == string(s.got()[1].body[21:86]) {
		t.Error("a salt or a key of a sender is used twice (RFC 8291 §3.1)")
	}
	parameters, ok := strings.CutPrefix(p.header.Get("Authorization"), "vapid t=")
	token, k, both := strings.Cut(parameters, ", k=")
	if !ok || !both || k != w.PublicKey() {
		t.Fatalf("Authorization %q", p.header.Get("Authorization"))
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), decode(t, k))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := parsed.Claims(public, &claims); err != nil {
		t.Fatal(err)
	}
	exp, _ := claims["exp"].(float64)
	if left := time.Until(time.Unix(int64(exp), 0)); left < 59*time.Minute || left > time.Hour {
		t.Errorf("the token lives %v", left)
	}
	if claims["aud"] != s.URL || claims["sub"] != "https://bank.example" || len(claims) != 3 {
		t.Errorf("claims %v", claims)
	}
}

func TestWebPush_HowItEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		status  int
		refused bool
		fails   bool
		forgets bool
	}{
		{"created", 201, false, false, false},
		{"accepted", 202, false, false, false},
		{"no such subscription", 404, false, false, true},
		{"gone", 410, false, false, true},
		{"our mistake", 400, true, true, false},
		{"not our key", 403, true, true, false},
		{"too large", 413, true, true, false},
		{"too many", 429, false, true, false},
		{"broken", 500, false, true, false},
		{"away", 503, false, true, false},
		{"a redirect", 302, true, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, f, m := serve(t), forgotten{}, approval()
			s.answer(test.status)
			b := subscribe(t, s.URL+"/push/secret")
			m.To.Browsers = []reach.Subscription{b.Subscription}
			err := newWebPush(t, s.outbound(loopback), &f).Send(t.Context(), m)
			if (err != nil) != test.fails || errors.Is(err, reach.ErrRefused) != test.refused {
				t.Errorf("%v", err)
			}
			mustNotShow(t, err, "secret")
			if forgets := len(f) == 1 && f[0] == m.To.ID.String()+" "+s.URL+"/push/secret"; forgets != test.forgets || len(f) > 1 {
				t.Errorf("forgotten: %v", f)
			}
			s.one(t)
		})
	}
}

func TestWebPush_GoesOutLikeAllThatOthersName(t *testing.T) {
	t.Parallel()
	s := serve(t)
	b, m := subscribe(t, s.URL+"/push/secret"), approval()
	m.To.Browsers = []reach.Subscription{b.Subscription}
	for name, test := range map[string]struct {
		calls   reach.Poster
		refused bool
	}{
		"a private address":   {s.outbound(), true},
		"another certificate": {outbound.New(outbound.Options{AllowPrivate: []netip.Prefix{loopback}}), false},
	} {
		err := newWebPush(t, test.calls, &forgotten{}).Send(t.Context(), m)
		if err == nil || errors.Is(err, reach.ErrRefused) != test.refused {
			t.Errorf("%s: %v", name, err)
		}
		mustNotShow(t, err, "secret")
	}
	if n := len(s.got()); n != 0 {
		t.Errorf("%d requests got through", n)
	}
	s.delay = 2 * time.Second
	if err := newWebPush(t, s.outbound(netip.MustParsePrefix("127.0.0.1/32")), &forgotten{}).Send(t.Context(), m); err == nil || errors.Is(err, reach.ErrRefused) {
		t.Errorf("slow: %v", err)
	}
}

func TestWebPush_NobodyIsRungTooLate(t *testing.T) {
	t.Parallel()
	s := serve(t)
	m := approval()
	m.ExpiresAt = time.Now().Add(500 * time.Millisecond) // less than a second: a TTL of 0 would still ring (RFC 8030 §5.2)
	m.To.Browsers = []reach.Subscription{subscribe(t, s.URL).Subscription}
	if err := newWebPush(t, s.outbound(loopback), &forgotten{}).Send(t.Context(), m); err != nil || len(s.got()) != 0 {
		t.Errorf("%v, %d requests", err, len(s.got()))
	}
}
