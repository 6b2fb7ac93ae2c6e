package fapi

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// eachVector runs a parallel subtest for every file testdata/<kind>-*.txt. Its name is the file's first comment.
func eachVector(t *testing.T, kind string, test func(t *testing.T, v map[string]string)) {
	files, _ := filepath.Glob(filepath.Join("testdata", kind+"-*.txt"))
	if len(files) == 0 {
		t.Fatalf("no testdata/%s-*.txt", kind)
	}
	for _, file := range files {
		vector, comment := readVector(t, file)
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			t.Log(comment)
			test(t, vector)
		})
	}
}

func readVector(t testing.TB, file string) (vector map[string]string, comment string) {
	vector, last := map[string]string{}, ""
	for line := range strings.Lines(string(must(os.ReadFile(file)))) {
		line = strings.TrimRight(line, "\r\n")
		name, value, ok := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "#"):
			comment += strings.TrimPrefix(line, "#")
		case strings.HasPrefix(line, "  "):
			vector[last] += line[2:]
		case ok:
			vector[name], last = value, name
		default:
			t.Fatalf("%s: cannot read %q", file, line)
		}
	}
	return vector, comment
}

func TestVectors_dpop(t *testing.T) {
	t.Parallel()
	eachVector(t, "dpop", func(t *testing.T, v map[string]string) {
		proof, err := CheckDPoP([]string{v["proof"]}, DPoPRequest{
			Method: v["method"], URLs: []string{v["url"]}, AccessToken: v["token"],
			Now: time.Unix(must(strconv.ParseInt(v["now"], 10, 64)), 0), Algorithms: FindProfile(FAPI2).Algorithms,
		})
		if v["expect"] != "accepted" {
			refused(t, err, Code(v["expect"]))
			return
		}
		refused(t, err, "")
		if proof.JKT != v["jkt"] {
			t.Errorf("jkt %s, want %s", proof.JKT, v["jkt"])
		}
	})
}

func TestVectors_pkce(t *testing.T) {
	t.Parallel()
	eachVector(t, "pkce", func(t *testing.T, v map[string]string) {
		refused(t, CheckCodeChallenge(v["challenge"], "S256"), "")
		if got := VerifierMatches(v["challenge"], v["verifier"]); got != (v["expect"] == "matches") {
			t.Errorf("VerifierMatches is %v", got)
		}
	})
}

func TestVectors_thumbprint(t *testing.T) {
	t.Parallel()
	eachVector(t, "thumbprint", func(t *testing.T, v map[string]string) {
		got := ""
		if v["jwk"] != "" {
			var k jose.JSONWebKey
			if err := json.Unmarshal([]byte(v["jwk"]), &k); err != nil {
				t.Fatal(err)
			}
			got = must(thumbprint(&k))
		} else {
			got = CertificateThumbprint(must(x509.ParseCertificate(must(base64.StdEncoding.DecodeString(v["der"])))))
		}
		if got != v["thumbprint"] {
			t.Errorf("got %s, want %s", got, v["thumbprint"])
		}
	})
}

func TestVectors_dn(t *testing.T) {
	t.Parallel()
	eachVector(t, "dn", func(t *testing.T, v map[string]string) {
		subject := must(parseRawDN(must(base64.StdEncoding.DecodeString(v["der"]))))
		for name, text := range v {
			if name == "der" || name == "expect" {
				continue
			}
			registered, err := parseDN(text)
			if err != nil {
				t.Fatalf("%s: %s: %v", name, text, err)
			}
			if registered.same(subject) != (v["expect"] == "same") {
				t.Errorf("%s: %q against %q: want %s", name, registered, subject, v["expect"])
			}
		}
	})
}
