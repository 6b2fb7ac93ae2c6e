package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestWriteTable(t *testing.T) {
	good := &result{combination: combinations()[0]}
	if err := json.Unmarshal([]byte(`{"totals": {"PASSED": 2, "REVIEW": 1}, "modules": [
		{"module": "happy-flow", "result": "PASSED"}, {"module": "discovery", "result": "PASSED"},
		{"module": "reuse", "result": "REVIEW"}]}`), good); err != nil {
		t.Fatal(err)
	}
	bad := &result{combination: combinations()[8]}
	if err := json.Unmarshal([]byte(`{"totals": {"WARNING": 1, "FAILED": 1}, "modules": [
		{"module": "refresh", "result": "FAILED", "failures": [{"src": "CheckStatus", "msg": "was 500"}]},
		{"module": "nonce", "result": "WARNING", "warnings": [{"src": "CheckNonce", "msg": "none"}]}]}`), bad); err != nil {
		t.Fatal(err)
	}
	broken := &result{combination: combinations()[19], err: errors.New("no suite")}

	var table strings.Builder
	if n := writeTable(&table, []*result{good, bad, broken}); n != 3 {
		t.Errorf("%d bad ones, want a failed module, one with a warning and a plan that did not run", n)
	}
	for _, want := range []string{
		"| mtls | private_key_jwt | plain_oauth | simple | plain_fapi | 3 | 2 | 1 | 0 | 0 | 0 |\n",
		"| dpop | private_key_jwt | plain_oauth | simple | plain_fapi | 2 | 0 | 0 | 0 | 1 | 1 |\n",
		"| **all** | | | | | 5 | 2 | 1 | 0 | 1 | 1 |\n",
		"- FAILED `refresh` — CheckStatus: was 500 (cs-dpop-pkjwt-oauth-simple)\n",
		"- WARNING `nonce` — CheckNonce: none (cs-dpop-pkjwt-oauth-simple)\n",
		"- REVIEW `reuse` (cs-mtls-pkjwt-oauth-simple)\n",
		"- FAILED to run: no suite (cs-dpop-mtls-cc)\n",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
}
