package fapi

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseClaims(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 101 {
		fmt.Fprintf(&many, `,"c%d":null`, i)
	}
	for _, test := range []struct {
		name, raw string
		ok        bool
	}{
		{"accepts the members that it knows and ignores others", `{"id_token":{"a":null,"b":{"essential":false,"purpose":"x"}},"verified_claims":[]}`, true},
		{"accepts an empty object", `{}`, true},
		{"refuses userinfo that is an array", `{"userinfo":[]}`, false},
		{"refuses a claim that is a string", `{"userinfo":{"a":"x"}}`, false},
		{"refuses an essential that is no boolean", `{"userinfo":{"a":{"essential":"true"}}}`, false},
		{"refuses values that are no array", `{"userinfo":{"a":{"values":"x"}}}`, false},
		{"refuses a claim that is there twice", `{"userinfo":{"a":null,"a":null}}`, false},
		{"refuses null", `null`, false},
		{"refuses 101 claims", `{"userinfo":{` + many.String()[1:] + `}}`, false},
		{"refuses more than 16 KiB", `{"x":"` + strings.Repeat("x", 16<<10) + `"}`, false},
	} {
		t.Run("OpenID Connect Core §5.5: "+test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseClaims(test.raw)
			if test.ok {
				refused(t, err, "")
			} else {
				refused(t, err, InvalidRequest)
			}
		})
	}
}
