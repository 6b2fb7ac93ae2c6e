package consent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

const someID = AccountAccessPath + "/aac-0000000000000000000000"

// What differs from run to run, for the comparison with a body as text.
var (
	createdID   = regexp.MustCompile(`aac-[A-Za-z0-9_-]{22}`)
	createdTime = regexp.MustCompile(`(CreationDateTime|StatusUpdateDateTime)":"[0-9T:.-]+Z"`)
)

func settle(body string) string {
	return createdTime.ReplaceAllString(createdID.ReplaceAllString(body, "aac-ID"), `$1":"TIME"`)
}

// A2-01, A2-04: the exact shape of OBReadConsentResponse1.
func TestAccountAccess_Bodies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	later := noon.AddDate(0, 3, 0).Format("2006-01-02")
	for _, c := range []struct{ name, sent, want string }{
		{
			"the least", minimal,
			`{"Data":{"ConsentId":"aac-ID","CreationDateTime":"TIME","Status":"AwaitingAuthorisation","StatusUpdateDateTime":"TIME",` +
				`"Permissions":["ReadAccountsBasic"]},"Risk":{},` +
				`"Links":{"Self":"https://bank.example/open-banking/v3.1/aisp/account-access-consents/aac-ID"},"Meta":{}}`,
		},
		{
			"everything",
			`{"Risk":{},"Data":{"TransactionToDateTime":"2026-05-08T00:00:00+00:00","TransactionFromDateTime":"2025-05-03T00:00:00.5-02:30",` +
				`"ExpirationDateTime":"` + later + `T10:40:00.1234567+02:00","Permissions":["ReadTransactionsDebits","ReadAccountsDetail","ReadTransactionsDetail","ReadAccountsDetail"]}}`,
			`{"Data":{"ConsentId":"aac-ID","CreationDateTime":"TIME","Status":"AwaitingAuthorisation","StatusUpdateDateTime":"TIME",` +
				`"Permissions":["ReadTransactionsDebits","ReadAccountsDetail","ReadTransactionsDetail"],"ExpirationDateTime":"` + later + `T08:40:00.123456Z",` +
				`"TransactionFromDateTime":"2025-05-03T02:30:00.5Z","TransactionToDateTime":"2026-05-08T00:00:00Z"},"Risk":{},` +
				`"Links":{"Self":"https://bank.example/open-banking/v3.1/aisp/account-access-consents/aac-ID"},"Meta":{}}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			created := b.call(t, "POST", AccountAccessPath, c.sent, "X-Idempotency-Key", "ignored")
			if created.StatusCode != http.StatusCreated || settle(created.body) != c.want {
				t.Fatalf("POST: %d\n got %s\nwant %s", created.StatusCode, settle(created.body), c.want)
			}
			for name, want := range map[string]string{"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store"} {
				if got := created.Header.Get(name); got != want {
					t.Errorf("%s: %q", name, got)
				}
			}
			read := b.call(t, "GET", AccountAccessPath+"/"+createdID.FindString(created.body), "")
			if read.StatusCode != http.StatusOK || read.body != created.body {
				t.Errorf("GET: %d\n got %s\nwant %s", read.StatusCode, read.body, created.body)
			}
		})
	}
}

// A2-07 to A2-11: what a client sees of a consent's life.
func TestAccountAccess_Statuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		change string
		status int
		want   string
	}{
		"A2-07: waits":                           {``, 200, storage.AwaitingAuthorisation},
		"A2-10: refused":                         {`status = 'Rejected'`, 200, storage.Rejected},
		"A2-11: expiry does not change it":       {`status = 'Authorised', expires_at = now() - interval '1 day'`, 200, storage.Authorised},
		"A2-08: deleted, it is none any more":    {`status = 'Revoked'`, 400, ""},
		"A2-07: authorised, with a long history": {`status = 'Authorised', transactions_from = '0001-01-01 00:00:00+00'`, 200, storage.Authorised},
	} {
		t.Run(name, func(t *testing.T) {
			id := b.create(t)
			if c.change != "" {
				b.exec(t, `UPDATE consents SET `+c.change+` WHERE id = $1`, id)
			}
			got := b.call(t, "GET", AccountAccessPath+"/"+id, "")
			if got.StatusCode != c.status || c.want != "" && !strings.Contains(got.body, `"Status":"`+c.want+`"`) {
				t.Errorf("%d %s", got.StatusCode, got.body)
			}
		})
	}
}

// A2-08: DELETE → 204, then 400; tokens are dead.
func TestAccountAccess_Delete(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t)
	authorization, _ := b.live(t, b.alice, id)
	if !b.lives(t, authorization) {
		t.Fatal("no living token to begin with")
	}
	if got := b.call(t, "DELETE", AccountAccessPath+"/"+id, "", "Authorization", "Bearer other accounts"); got.StatusCode != http.StatusForbidden {
		t.Errorf("another client's DELETE: %d", got.StatusCode)
	}
	if !b.lives(t, authorization) {
		t.Error("another client killed the tokens")
	}
	got := b.call(t, "DELETE", AccountAccessPath+"/"+id, "")
	if got.StatusCode != http.StatusNoContent || got.body != "" || got.Header.Get(interactionHeader) == "" {
		t.Errorf("DELETE: %d %q", got.StatusCode, got.body)
	}
	if b.lives(t, authorization) {
		t.Error("the tokens live")
	}
	for _, method := range []string{"GET", "DELETE"} {
		refused(t, b.call(t, method, AccountAccessPath+"/"+id, ""), 400, resourceNotFound, "ConsentId")
	}
	if got := b.call(t, "GET", AccountAccessPath+"/"+id, "", "Authorization", "Bearer other accounts"); got.StatusCode != http.StatusForbidden {
		t.Errorf("another client's GET after the end: %d", got.StatusCode)
	}
}

func TestAccountAccess_FiftyDeletesAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.create(t)
	authorization, _ := b.live(t, b.alice, id)
	statuses := map[int]int{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			got := b.call(t, "DELETE", AccountAccessPath+"/"+id, "")
			mu.Lock()
			defer mu.Unlock()
			statuses[got.StatusCode]++
		})
	}
	all.Wait()
	if statuses[204] != 1 || statuses[400] != 49 {
		t.Errorf("answers: %v", statuses)
	}
	if b.lives(t, authorization) {
		t.Error("the tokens live")
	}
}

// refused checks the one error of an OBErrorResponse1.
func refused(t *testing.T, got response, status int, code, path string) {
	t.Helper()
	var e struct {
		Code, Id, Message string
		Errors            []struct{ ErrorCode, Message, Path string }
	}
	if err := json.Unmarshal([]byte(got.body), &e); err != nil {
		t.Fatalf("%d %q: %v", got.StatusCode, got.body, err)
	}
	if got.StatusCode != status || len(e.Errors) != 1 || e.Errors[0].ErrorCode != code || e.Errors[0].Path != path {
		t.Errorf("%d %s\nwant %d %s at %q", got.StatusCode, got.body, status, code, path)
		return
	}
	if !strings.HasPrefix(e.Code, fmt.Sprint(status, " ")) || e.Message == "" || e.Errors[0].Message == "" || e.Id != got.Header.Get(interactionHeader) {
		t.Errorf("incomplete: %s", got.body)
	}
}

// A1-01 to A1-03, A5-05, A5-06: who may call, and how. Nothing is stored by a call that is refused.
func TestAccountAccess_RefusedCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine := AccountAccessPath + "/" + b.create(t)
	big := `{"Data":{"Permissions":["ReadAccountsBasic"]},"Risk":{}}` + strings.Repeat(" ", maxBody)
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code, at                 string            // of the body; "" for none
		want                     map[string]string // headers
	}{
		{"A5-06: no token", "POST", AccountAccessPath, minimal, []string{"Authorization", ""}, 401, "", "", map[string]string{"Www-Authenticate": "Bearer"}},
		{"A5-06: a bad token", "GET", mine, "", []string{"Authorization", "Bearer x"}, 401, "", "", map[string]string{"Www-Authenticate": `Bearer error="invalid_token"`}},
		{"A5-06: a bad token on a bad request", "POST", AccountAccessPath, "{", []string{"Authorization", "Bearer x", interactionHeader, "x"}, 401, "", "", nil},
		{"A1-01: a customer's token creates", "POST", AccountAccessPath, minimal, []string{"Authorization", own + " alice"}, 403, notAllowed, "", map[string]string{"Www-Authenticate": `Bearer error="insufficient_scope"`}},
		{"A1-01: a customer's token reads", "GET", mine, "", []string{"Authorization", own + " alice"}, 403, notAllowed, "", nil},
		{"A1-01: a customer's token deletes", "DELETE", mine, "", []string{"Authorization", own + " alice"}, 403, notAllowed, "", nil},
		{"A1-03: another scope", "POST", AccountAccessPath, minimal, []string{"Authorization", "Bearer tpp payments,openid"}, 403, notAllowed, "", nil},
		{"A1-03: the wrong certificate", "GET", mine, "", []string{"Authorization", "Bearer unbound accounts"}, 403, notAllowed, "", nil},
		{"we cannot check the token", "GET", mine, "", []string{"Authorization", "Bearer broken accounts"}, 500, unexpectedError, "", map[string]string{"Www-Authenticate": ""}},
		{"we are overloaded", "GET", mine, "", []string{"Authorization", "Bearer busy accounts"}, 503, "", "", nil},
		{"A1-02: another client's", "GET", mine, "", []string{"Authorization", "Bearer other accounts"}, 403, notAllowed, "", nil},
		{"A1-02: unknown", "GET", someID, "", nil, 400, resourceNotFound, "ConsentId", nil},
		{"A1-02: unknown to delete", "DELETE", someID, "", nil, 400, resourceNotFound, "ConsentId", nil},
		{"A1-02: no id at all", "GET", AccountAccessPath + "/%00", "", nil, 400, resourceNotFound, "ConsentId", nil},
		{"A1-02: an endless id", "GET", AccountAccessPath + "/" + strings.Repeat("a", 129), "", nil, 400, resourceNotFound, "ConsentId", nil},
		{"A1-02: no such URL", "GET", mine + "/more", "", nil, 404, "-", "", nil},
		{"A5-05: method on the collection", "GET", AccountAccessPath, "", nil, 405, "", "", map[string]string{"Allow": "POST"}},
		{"A5-05: method on a consent", "PUT", mine, minimal, nil, 405, "", "", map[string]string{"Allow": "DELETE, GET"}},
		{"A5-05: method without a token", "PATCH", mine, minimal, []string{"Authorization", ""}, 405, "", "", map[string]string{"Allow": "DELETE, GET"}},
		{"A5-05: media type", "POST", AccountAccessPath, minimal, []string{"Content-Type", "text/plain"}, 415, "", "", nil},
		{"A5-05: no media type", "POST", AccountAccessPath, minimal, []string{"Content-Type", ""}, 415, "", "", nil},
		{"A5-05: a form", "POST", AccountAccessPath, minimal, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "", "", nil},
		{"A5-05: encrypted", "POST", AccountAccessPath, minimal, []string{"Content-Type", "application/jose+jwe"}, 415, "", "", nil},
		{"A5-05: another charset", "POST", AccountAccessPath, minimal, []string{"Content-Type", "application/json; charset=iso-8859-1"}, 415, "", "", nil},
		{"A5-05: compressed", "POST", AccountAccessPath, minimal, []string{"Content-Encoding", "gzip"}, 415, "", "", nil},
		{"A5-05: XML wanted", "POST", AccountAccessPath, minimal, []string{"Accept", "application/xml"}, 406, "", "", nil},
		{"A5-05: JSON not wanted", "GET", mine, "", []string{"Accept", "application/json;q=0, */*"}, 406, "", "", nil},
		{"A5-05: nonsense wanted", "DELETE", mine, "", []string{"Accept", "json"}, 406, "", "", nil},
		{"A5-01: a malformed interaction id", "GET", mine, "", []string{interactionHeader, "42"}, 400, headerInvalid, "x-fapi-interaction-id", nil},
		{"A5-01: not the form with hyphens", "GET", mine, "", []string{interactionHeader, "{c770aef3-6784-41f7-8e0e-ff5f97bddb3a}"}, 400, headerInvalid, "x-fapi-interaction-id", nil},
		{"A5-01: two of them", "GET", mine, "", []string{interactionHeader, uuid.NewString(), interactionHeader, uuid.NewString()}, 400, headerInvalid, "x-fapi-interaction-id", nil},
		{"a body too large", "POST", AccountAccessPath, big, nil, 413, "", "", nil},
		{"an empty body", "POST", AccountAccessPath, "", []string{"Content-Type", "application/json"}, 400, resourceInvalidFormat, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := b.call(t, c.method, c.path, c.body, c.headers...)
			switch c.code {
			case "":
				if got.StatusCode != c.status || got.body != "" {
					t.Errorf("%d %q, want %d without a body", got.StatusCode, got.body, c.status)
				}
			case "-": // not ours to answer
				if got.StatusCode != c.status {
					t.Errorf("%d, want %d", got.StatusCode, c.status)
				}
				return
			default:
				refused(t, got, c.status, c.code, c.at)
			}
			if id := got.Header.Values(interactionHeader); len(id) != 1 || !isUUID(id[0]) {
				t.Errorf("%s: %q", interactionHeader, id)
			}
			for name, value := range c.want {
				if got.Header.Get(name) != value {
					t.Errorf("%s: %q, want %q", name, got.Header.Get(name), value)
				}
			}
		})
	}
	var n int
	if err := b.sql.QueryRow(t.Context(), `SELECT count(*) FROM consents WHERE status = 'AwaitingAuthorisation'`).Scan(&n); err != nil || n != 1 {
		t.Errorf("%d consents after all that, %v", n, err)
	}
	if len(b.failed) != 1 || b.failed[0].Error() != "the database is gone" {
		t.Errorf("reported as our fault: %v", b.failed)
	}
}

// A5-01 to A5-05: headers that must not get in the way.
func TestAccountAccess_AcceptedHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, headers := range map[string][]string{
		"A5-05: charset":                         {"Content-Type", "Application/JSON; charset=UTF-8"},
		"A5-05: anything wanted":                 {"Accept", "*/*"},
		"A5-05: JSON among others":               {"Accept", "text/html, application/json;q=0.1"},
		"A5-05: application/* in a second field": {"Accept", "text/html", "Accept", "application/*"},
		"A5-05: any but XML":                     {"Accept", "application/xml;q=0, */*;q=0.5"},
		"A5-05: charset wanted":                  {"Accept", "application/json; charset=utf-8"},
		"A5-02: auth date with UTC":              {"x-fapi-auth-date", "Sun, 10 Sep 2017 19:43:31 UTC"},
		"A5-03: an odd customer address":         {"x-fapi-customer-ip-address", "not an address"},
		"A5-04: financial id, user agent":        {"x-fapi-financial-id", "0015800001041RHAAY", "x-customer-user-agent", "curl"},
		"A4-01: an endless idempotency key":      {"x-idempotency-key", strings.Repeat("k", 400)},
	} {
		t.Run(name, func(t *testing.T) {
			if got := b.call(t, "POST", AccountAccessPath, minimal, headers...); got.StatusCode != http.StatusCreated {
				t.Errorf("%d %s", got.StatusCode, got.body)
			}
		})
	}
	id := strings.ToUpper(uuid.NewString())
	for _, path := range []string{AccountAccessPath + "/" + b.create(t), someID} {
		if got := b.call(t, "GET", path, "", interactionHeader, id); got.Header.Get(interactionHeader) != id {
			t.Errorf("A5-01: %q came back as %q", id, got.Header.Get(interactionHeader))
		}
	}
}

func TestAccountAccess_DatabaseGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.db.Close()
	for method, path := range map[string]string{"POST": AccountAccessPath, "GET": someID, "DELETE": someID} {
		body := ""
		if method == "POST" {
			body = minimal
		}
		got := b.call(t, method, path, body)
		refused(t, got, 500, unexpectedError, "")
		if strings.Contains(got.body, "pool") {
			t.Errorf("%s tells of our inside: %s", method, got.body)
		}
	}
	if len(b.failed) != 3 {
		t.Errorf("reported: %v", b.failed)
	}
}

// A2-04: nobody guesses an id.
func TestNewConsentID(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		id := newConsentID()
		if seen[id] || !regexp.MustCompile(`^aac-[A-Za-z0-9_-]{22}$`).MatchString(id) || !consentIDs.MatchString(id) {
			t.Fatal(id)
		}
		seen[id] = true
	}
}

func TestDateTime_AlwaysWithItsZone(t *testing.T) {
	t.Parallel()
	text, err := dateTime(time.Date(2027, 1, 2, 3, 4, 5, 600000000, time.FixedZone("", 7200))).MarshalText()
	if string(text) != "2027-01-02T01:04:05.6Z" || err != nil {
		t.Errorf("%s, %v", text, err)
	}
}
