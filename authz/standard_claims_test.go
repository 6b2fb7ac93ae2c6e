package authz_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// everything is a profile with all that OpenID Connect Core §5.1 names.
var everything = storage.Profile{
	Username: "carol", Name: "Carol Ann Doe", GivenName: "Carol", MiddleName: "Ann", FamilyName: "Doe", Nickname: "Caz",
	ProfilePage: "https://carol.example/", Picture: "https://carol.example/me.png", Website: "https://carol.example/blog",
	Gender: "female", Birthdate: "1980-02-29", ZoneInfo: "Africa/Nairobi", Locale: "en-KE", UpdatedAt: 1735689600,
	Email: "carol@example.com", EmailVerified: true, PhoneNumber: "+254700123456",
	Address: storage.Address{StreetAddress: "1 High Street", Locality: "Nairobi", Country: "KE"},
}

func TestStandardClaims(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	pages, err := web.New(web.Brand{Name: "Meadow Bank"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := authn.New(s.DB, pages, zap.NewNop(), s.Config.Authn).CreateCustomer(t.Context(), authn.NewCustomer{
		Profile: everything, Password: authztest.Password, Accounts: []storage.Account{{ID: "77", Name: "Savings", Number: "000000077", Currency: "KES"}},
	}); err != nil {
		t.Fatal(err)
	}
	client := s.AddClient(t, "standard-claims", fapi.OpenID, fapi.PrivateKeyJWT, map[string]any{"scope": "openid profile email phone address"})
	profile := map[string]any{
		"name": "Carol Ann Doe", "given_name": "Carol", "middle_name": "Ann", "family_name": "Doe", "nickname": "Caz",
		"preferred_username": "carol", "profile": "https://carol.example/", "picture": "https://carol.example/me.png",
		"website": "https://carol.example/blog", "gender": "female", "birthdate": "1980-02-29", "zoneinfo": "Africa/Nairobi",
		"locale": "en-KE", "updated_at": 1735689600.0,
	}
	for _, c := range []struct {
		name, scope string
		want        map[string]any
	}{
		{"OpenID Connect Core §5.4: profile", "openid profile", profile},
		{"OpenID Connect Core §5.4: email", "openid email", map[string]any{"email": "carol@example.com", "email_verified": true}},
		{"OpenID Connect Core §5.4: phone, which nobody verified", "openid phone",
			map[string]any{"phone_number": "+254700123456", "phone_number_verified": false}},
		{"OpenID Connect Core §5.1.1: address", "openid address",
			map[string]any{"address": map[string]any{"street_address": "1 High Street", "locality": "Nairobi", "country": "KE"}}},
		{"OpenID Connect Core §5.4: openid alone", "openid", map[string]any{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := s.Browser(t)
			page := b.LoginAs(t, b.Authorize(t, client.ID, client.Push(t, map[string]string{"scope": c.scope, "prompt": "consent"})), "carol")
			page = b.Decide(t, page, "approve", "77")
			tokens := client.Exchange(t, s.Response(t, page).Get("code"))
			got := client.Get(t, "/userinfo", tokens["access_token"].(string)).JSON
			delete(got, "sub")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("OpenID Connect Core §5.1: an email address that nobody verified", func(t *testing.T) {
		web := s.Client("web")
		tokens := web.Grant(t, map[string]string{"scope": "openid email"})
		if got := web.Get(t, "/userinfo", tokens["access_token"].(string)).JSON["email_verified"]; got != false {
			t.Errorf("email_verified is %v", got)
		}
	})
	t.Run("OpenID Connect Discovery §3: claims_supported names each", func(t *testing.T) {
		supported, _ := s.Client("web").Get(t, "/.well-known/openid-configuration", "").JSON["claims_supported"].([]any)
		for name := range maps.Keys(profile) {
			if !slices.Contains(supported, any(name)) {
				t.Errorf("%s is missing", name)
			}
		}
	})
}

func TestRequestURILifetime(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	for _, c := range []struct {
		name string
		set  time.Duration
		want float64 // seconds
	}{
		{"RFC 9126 §2.2: as the profile says", 0, 60},
		{"shorter, if the institution wants it", 10 * time.Second, 10},
		{"never longer than the profile says", time.Hour, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.Config.RequestURILifetime = c.set
			client := s.Client("tpp-mtls")
			answer := client.Post(t, "/par", client.Request(t, nil))
			if answer.JSON["expires_in"] != c.want {
				t.Errorf("answered %s, want expires_in %v", answer.Body, c.want)
			}
		})
	}
}
