package authz

import (
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

func TestCIBA_Check(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		c    CIBA
		ok   bool
	}{
		{"the defaults", CIBA{}, true},
		{"the shortest", CIBA{Lifetime: shortestBackchannel, MaxOpen: 1}, true},
		{"shorter", CIBA{Lifetime: shortestBackchannel - time.Second}, false},
		{"the longest", CIBA{Lifetime: longestBackchannel}, true},
		{"longer", CIBA{Lifetime: longestBackchannel + time.Second}, false},
		{"negative", CIBA{Lifetime: -time.Minute}, false},
		{"fewer than none", CIBA{MaxOpen: -1}, false},
		{"an issuer without keys", CIBA{HintIssuers: fapi.HintIssuers{"https://shop.example": &jose.JSONWebKeySet{}}}, false},
		{"an issuer without a name", CIBA{HintIssuers: fapi.HintIssuers{"": {Keys: make([]jose.JSONWebKey, 1)}}}, false},
	} {
		if err := test.c.check(); (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
