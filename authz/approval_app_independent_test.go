package authz_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// An app that signs with a library that nobody here wrote (npm's jose) goes the whole way, with each algorithm.
func TestApprovalApp_Independent(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			why := tool + " is missing: install nodejs and npm to have another's app approve (Debian: apt-get install nodejs npm)"
			if os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" {
				t.Fatal(why)
			}
			t.Skip(why)
		}
	}
	s := authztest.Start(t)
	folder := filepath.Join(t.TempDir(), "app")
	if err := os.CopyFS(folder, os.DirFS("../conformance/independent/approval-app")); err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(folder, "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Authority().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	run := func(in []byte, name string, args ...string) []byte {
		t.Helper()
		c := exec.CommandContext(ctx, name, args...)
		c.Dir, c.Stdin, c.Env = folder, bytes.NewReader(in), append(os.Environ(), "NODE_EXTRA_CA_CERTS="+roots)
		var problems bytes.Buffer
		c.Stderr = &problems
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, problems.Bytes())
		}
		return out
	}
	run(nil, "npm", "ci", "--no-audit", "--no-fund", "--silent")
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	p := startApp(t, s, addApp(t, s, "bank-app"), authztest.Username, true)
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256} {
		b := beginBackchannel(t, speaker, url.Values{"acr_values": {authn.SCA}})
		out := run([]byte(asJSON(t, map[string]any{
			"issuer": s.Issuer, "token": p.token, "sub": p.sub, "alg": alg, "dpop": jose.JSONWebKey{Key: p.app.DPoPKey},
		})), "node", "app.mjs")
		var saw struct{ Device, Message, Decision string }
		if err := json.Unmarshal(out, &saw); err != nil || saw.Message != "W4SCT" || saw.Decision != "approve" {
			t.Errorf("%s: the app says %s", alg, out)
		}
		if answer := pollBackchannel(t, speaker, b); answer.Status != http.StatusOK {
			t.Errorf("%s: %d %s", alg, answer.Status, answer.Body)
		}
	}
}
