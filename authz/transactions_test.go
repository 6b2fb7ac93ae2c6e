package authz_test

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/consent"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

const transactionsAPI = "/transactions/v1"

// core is a backend of the bank's that starts transactions, with a token of its own.
type core struct {
	*authztest.Client
	token string
}

func newCore(t *testing.T, s *authztest.Server, id string) *core {
	t.Helper()
	c := s.AddClient(t, id, fapi.FAPI2, fapi.TLSClientAuth, map[string]any{
		"tls_client_certificate_bound_access_tokens": true, "scope": "openid accounts transactions", "grant_types": []string{"client_credentials", "authorization_code"},
	})
	return &core{c, c.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"transactions"}})["access_token"].(string)}
}

// call makes a call; headers are names and values in turn, and win.
func (c *core) call(t *testing.T, method, path, body string, headers ...string) *authztest.Answer {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + c.token}, "Content-Type": {"application/json"}}
	for i := 0; i < len(headers); i += 2 {
		header[http.CanonicalHeaderKey(headers[i])] = headers[i+1 : i+2]
	}
	return c.Raw(t, method, path, body, header)
}

// firm is an organization of four: maker starts, first and second approve up to 1,000 EUR alone, up to 50,000 EUR both; rest has
// nothing to do with it.
type firm struct {
	s       *authztest.Server
	core    *core
	people  map[string]uuid.UUID
	mandate storage.Mandate
}

func newFirm(t *testing.T, options ...authztest.Options) *firm {
	t.Helper()
	s := authztest.Start(t, options...)
	f := &firm{s: s, core: newCore(t, s, "core"), people: map[string]uuid.UUID{}}
	for name, account := range map[string]string{"maker": "21", "first": "22", "second": "23", "rest": "24"} {
		s.AddCustomer(t, name, account)
		c, err := s.DB.FindCustomer(t.Context(), "default", name)
		if err != nil {
			t.Fatal(err)
		}
		f.people[name] = c.ID
	}
	f.mandate = storage.Mandate{
		ID: storage.NewID(), Tenant: "default", Name: "Meadow Dairy",
		Tiers:   []storage.MandateTier{{Currency: "EUR", UpTo: "1000", Approvals: 1}, {Currency: "EUR", UpTo: "50000", Approvals: 2}},
		Members: []storage.MandateMember{{CustomerID: f.people["maker"], MayStart: true}, {CustomerID: f.people["first"], MayApprove: true}, {CustomerID: f.people["second"], MayApprove: true}},
	}
	if err := s.DB.SaveMandate(t.Context(), &f.mandate); err != nil {
		t.Fatal(err)
	}
	return f
}

// payment is what maker starts, with changes; nil leaves a member out.
func (f *firm) payment(changes map[string]any) map[string]any {
	return changed(map[string]any{
		"type": "payment", "sub": f.people["maker"].String(), "mandate": f.mandate.ID.String(), "amount": "1500.00", "currency": "EUR",
		"payee": map[string]any{"name": "Acme Feeds", "account": "DE02100100109307118603"}, "from_account": "•••• 4821", "reference": "Invoice 7",
	}, changes)
}

func (f *firm) start(t *testing.T, changes map[string]any) map[string]any {
	t.Helper()
	a := f.core.call(t, "POST", transactionsAPI, asJSON(t, f.payment(changes)), "X-Idempotency-Key", uuid.NewString())
	if a.Status != http.StatusCreated {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return a.JSON
}

func transactionAt(made map[string]any) string { return transactionsAPI + "/" + made["id"].(string) }

// approves records an approval as the pages do, whose own tests are consent's: a code is sent, typed and used up.
func (f *firm) approves(t *testing.T, name string, made map[string]any) {
	t.Helper()
	id := uuid.MustParse(made["id"].(string))
	found, err := f.s.DB.FindTransaction(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f.s.SQL(t, `INSERT INTO transaction_decisions (transaction_id, customer_id, revision, digest, answer, factor_kind) VALUES ($1, $2, $3, $4, 'approved', 'email')`,
		[16]byte(id), [16]byte(f.people[name]), found.Revision, found.Digest)
	f.s.SQL(t, `UPDATE transactions SET status = 'approved' WHERE id = $1 AND required <= (SELECT count(*) FROM transaction_decisions WHERE transaction_id = $1)`, [16]byte(id))
}

// refused is what this API answers that does not do what it was asked to.
func transactionRefused(t *testing.T, a *authztest.Answer, status int, code fapi.Code) {
	t.Helper()
	if a.Status != status || a.JSON["error"] != string(code) || a.JSON["error_description"] == "" || len(a.JSON) != 2 {
		t.Errorf("answered %d %s, want %d %s", a.Status, a.Body, status, code)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", a.Header.Get("Cache-Control"))
	}
}

// RFC 6750 §3: who may call at all.
func TestTransactions_Tokens(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made := f.start(t, nil)
	less := f.core.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"accounts"}})["access_token"].(string)
	elsewhere := f.core.Token(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"transactions"}, "resource": {"https://other.example"}})["access_token"].(string)
	customers := *f.core.Client
	customers.Scope = "openid transactions"
	customer := customers.Exchange(t, f.s.Approve(t, &customers, customers.Push(t, nil)))["access_token"].(string)
	for _, call := range []struct{ method, path string }{
		{"POST", transactionsAPI}, {"GET", transactionAt(made)}, {"PATCH", transactionAt(made)}, {"DELETE", transactionAt(made)}, {"POST", transactionAt(made) + "/consume"},
	} {
		for name, c := range map[string]struct {
			token  string
			status int
			code   fapi.Code
		}{
			"RFC 6750 §3.1: a token without the scope":       {less, 403, fapi.InsufficientScope},
			"RFC 6750 §3.1: a customer's token":              {customer, 403, fapi.InsufficientScope},
			"RFC 8707 §2: a token for another resource":      {elsewhere, 401, fapi.InvalidToken},
			"RFC 6750 §3.1: a token that is none":            {"csat_x", 401, fapi.InvalidToken},
			"RFC 8705 §3: another client's, without its key": {newCore(t, f.s, "core-"+strings.ToLower(call.method)+uuid.NewString()).token, 401, fapi.InvalidToken},
		} {
			t.Run(call.method+" "+name, func(t *testing.T) {
				a := f.core.call(t, call.method, call.path, "{}", "Authorization", "Bearer "+c.token)
				a.Challenged(t, c.status, "Bearer", c.code)
				transactionRefused(t, a, c.status, c.code)
			})
		}
		f.core.Raw(t, call.method, call.path, "", nil).Challenged(t, http.StatusUnauthorized, "Bearer", "")
	}
	if a := f.core.call(t, "GET", transactionAt(made), ""); a.JSON["status"] != storage.AwaitingApproval {
		t.Errorf("after all that: %d %s", a.Status, a.Body)
	}
	t.Run("an app that registers itself cannot have the scope", func(t *testing.T) {
		f.s.Config.Scopes = append(f.s.Config.Scopes, consent.TransactionsScope)
		_, told := mustRegister(t, f.s, members{"scope": "openid transactions"})
		if scope, _ := told["scope"].(string); strings.Contains(scope, "transactions") {
			t.Errorf("registered with %q", scope)
		}
	})
}

// What starts a transaction, member by member.
func TestTransactions_Start(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	made := f.start(t, nil)
	for member, want := range map[string]any{
		"status": "awaiting_approval", "type": "payment", "amount": "1500", "currency": "EUR", "revision": 1.0, "started_by": f.people["maker"].String(),
		"reference": "Invoice 7", "approval_url": f.s.Config.Issuer + "/transactions/" + made["id"].(string),
	} {
		if made[member] != want {
			t.Errorf("%s: %v, want %v", member, made[member], want)
		}
	}
	many, _ := made["multi_authorisation"].(map[string]any)
	if many["number_required"] != 2.0 || many["number_received"] != 0.0 || many["status"] != "AwaitingFurtherAuthorisation" {
		t.Errorf("%v", many)
	}
	text := func(n int) string { return strings.Repeat("x", n) }
	payee := func(name, account any) map[string]any {
		p := map[string]any{"name": name, "account": account}
		maps.DeleteFunc(p, func(_ string, v any) bool { return v == nil })
		return map[string]any{"payee": p}
	}
	for name, c := range map[string]struct {
		changes map[string]any
		status  int
		code    fapi.Code
	}{
		"no amount":                      {map[string]any{"amount": nil}, 400, fapi.InvalidRequest},
		"an amount that is a number":     {map[string]any{"amount": 1500}, 400, fapi.InvalidRequest},
		"an amount of zero":              {map[string]any{"amount": "0.00"}, 400, fapi.InvalidRequest},
		"a negative amount":              {map[string]any{"amount": "-1"}, 400, fapi.InvalidRequest},
		"an amount with an exponent":     {map[string]any{"amount": "1e3"}, 400, fapi.InvalidRequest},
		"an amount with a comma":         {map[string]any{"amount": "1,500"}, 400, fapi.InvalidRequest},
		"an amount that is too long":     {map[string]any{"amount": strings.Repeat("9", 19)}, 400, fapi.InvalidRequest},
		"no currency":                    {map[string]any{"currency": nil}, 400, fapi.InvalidRequest},
		"a currency that is none":        {map[string]any{"currency": "eur"}, 400, fapi.InvalidRequest},
		"no payee":                       {map[string]any{"payee": nil}, 400, fapi.InvalidRequest},
		"a payee that is a text":         {map[string]any{"payee": "Acme"}, 400, fapi.InvalidRequest},
		"a payee without a name":         {payee(nil, "DE02"), 400, fapi.InvalidRequest},
		"a payee without an account":     {payee("Acme", nil), 400, fapi.InvalidRequest},
		"a payee with more":              {map[string]any{"payee": map[string]any{"name": "Acme", "account": "DE02", "bic": "X"}}, 400, fapi.InvalidRequest},
		"a name that turns the text":     {payee("Acme \u202eliame", "DE02"), 400, fapi.InvalidRequest},
		"a name with a line break":       {payee("Acme\nFeeds", "DE02"), 400, fapi.InvalidRequest},
		"a name with spaces around":      {payee(" Acme", "DE02"), 400, fapi.InvalidRequest},
		"a name that is too long":        {payee(text(101), "DE02"), 400, fapi.InvalidRequest},
		"an account that is too long":    {payee("Acme", text(65)), 400, fapi.InvalidRequest},
		"a reference that is too long":   {map[string]any{"reference": text(141)}, 400, fapi.InvalidRequest},
		"no type":                        {map[string]any{"type": nil}, 400, fapi.InvalidRequest},
		"a type in capitals":             {map[string]any{"type": "Payment"}, 400, fapi.InvalidRequest},
		"a member that nobody would see": {map[string]any{"note": "x"}, 400, fapi.InvalidRequest},
		"an end that is none":            {map[string]any{"expires_in": 0}, 400, fapi.InvalidRequest},
		"an end that is a text":          {map[string]any{"expires_in": "60"}, 400, fapi.InvalidRequest},
		"nobody starts it":               {map[string]any{"sub": nil}, 400, fapi.InvalidRequest},
		"somebody whom we do not know":   {map[string]any{"sub": uuid.NewString()}, 403, consent.NotPermitted},
		"a name that is no sub":          {map[string]any{"sub": "maker"}, 403, consent.NotPermitted},
		"somebody without the mandate":   {map[string]any{"sub": f.people["rest"].String()}, 403, consent.NotPermitted},
		"somebody who only approves":     {map[string]any{"sub": f.people["first"].String()}, 403, consent.NotPermitted},
		"a mandate that there is not":    {map[string]any{"mandate": uuid.NewString()}, 403, consent.NotPermitted},
		"a mandate that is no id":        {map[string]any{"mandate": "x"}, 400, fapi.InvalidRequest},
		"above the mandate":              {map[string]any{"amount": "50000.01"}, 403, consent.LimitExceeded},
		"a currency of no tier":          {map[string]any{"currency": "KES"}, 403, consent.LimitExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.core.call(t, "POST", transactionsAPI, asJSON(t, f.payment(c.changes)), "X-Idempotency-Key", uuid.NewString())
			transactionRefused(t, a, c.status, c.code)
		})
	}
	body := asJSON(t, f.payment(nil))
	for name, c := range map[string]struct {
		body, key, media string
		status           int
	}{
		"no key":                 {body, "", "application/json", 400},
		"a key that is too long": {body, text(129), "application/json", 400},
		"no JSON":                {"{", "k", "application/json", 400},
		"a list":                 {"[]", "k", "application/json", 400},
		"a member twice":         {strings.Replace(body, "{", `{"amount":"1",`, 1), "k", "application/json", 400},
		"no body":                {"", "k", "application/json", 400},
		"a form":                 {body, "k", authztest.FormType, 415},
		"too large":              {strings.Replace(body, "{", "{"+strings.Repeat(" ", 64<<10), 1), "k", "application/json", 413},
	} {
		t.Run(name, func(t *testing.T) {
			a := f.core.call(t, "POST", transactionsAPI, c.body, "X-Idempotency-Key", c.key, "Content-Type", c.media)
			transactionRefused(t, a, c.status, fapi.InvalidRequest)
		})
	}
	t.Run("two keys", func(t *testing.T) {
		a := f.core.Raw(t, "POST", transactionsAPI, body, http.Header{"Authorization": {"Bearer " + f.core.token}, "Content-Type": {"application/json"}, "X-Idempotency-Key": {"a", "b"}})
		transactionRefused(t, a, 400, fapi.InvalidRequest)
	})
	if n := f.s.Count(t, `SELECT count(*) FROM transactions`); n != 1 {
		t.Errorf("%d were stored", n)
	}
}

// The same key starts nothing twice, and each client's keys are its own.
func TestTransactions_Idempotency(t *testing.T) {
	t.Parallel()
	f := newFirm(t)
	post := func(c *core, changes map[string]any) *authztest.Answer {
		return c.call(t, "POST", transactionsAPI, asJSON(t, f.payment(changes)), "X-Idempotency-Key", "order-7")
	}
	first, again := post(f.core, nil), post(f.core, nil)
	if first.Status != 201 || again.Status != 201 || first.JSON["id"] != again.JSON["id"] {
		t.Errorf("%d %v, then %d %v", first.Status, first.JSON["id"], again.Status, again.JSON["id"])
	}
	transactionRefused(t, post(f.core, map[string]any{"amount": "1501"}), 422, consent.IdempotencyConflict)
	transactionRefused(t, post(f.core, map[string]any{"mandate": nil}), 422, consent.IdempotencyConflict)
	if other := post(newCore(t, f.s, "other-core"), nil); other.Status != 201 || other.JSON["id"] == first.JSON["id"] {
		t.Errorf("another client's: %d %v", other.Status, other.JSON["id"])
	}
	if a := post(f.core, map[string]any{"amount": "01500.0"}); a.JSON["id"] != first.JSON["id"] {
		t.Errorf("the same amount in other digits: %d %s", a.Status, a.Body)
	}
}

// Each call on a transaction in each status, and on those that are none of the caller's.
func TestTransactions_Statuses(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authztest.Options{Transactions: consent.TransactionLimits{MaxOpen: 100}})
	other := newCore(t, f.s, "other-core")
	low := map[string]any{"amount": "900"}
	ways := map[string]func(t *testing.T) map[string]any{
		"waiting": func(t *testing.T) map[string]any { return f.start(t, low) },
		"approved": func(t *testing.T) map[string]any {
			made := f.start(t, low)
			f.approves(t, "first", made)
			return made
		},
		"expired": func(t *testing.T) map[string]any {
			made := f.start(t, low)
			f.s.SQL(t, `UPDATE transactions SET expires_at = now() WHERE id = $1`, made["id"])
			return made
		},
		"approved, too long ago": func(t *testing.T) map[string]any {
			made := f.start(t, low)
			f.approves(t, "first", made)
			f.s.SQL(t, `UPDATE transactions SET expires_at = now() WHERE id = $1`, made["id"])
			return made
		},
		"withdrawn": func(t *testing.T) map[string]any {
			made := f.start(t, low)
			if a := f.core.call(t, "DELETE", transactionAt(made), ""); a.Status != 204 || len(a.Body) != 0 {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			return made
		},
		"consumed": func(t *testing.T) map[string]any {
			made := f.start(t, low)
			f.approves(t, "first", made)
			f.core.call(t, "POST", transactionAt(made)+"/consume", asJSON(t, map[string]any{"digest": made["digest"]}))
			return made
		},
	}
	status := map[string]string{"waiting": "awaiting_approval", "expired": "expired", "approved, too long ago": "expired", "withdrawn": "voided", "approved": "approved", "consumed": "consumed"}
	for state, way := range ways {
		made := way(t)
		if a := f.core.call(t, "GET", transactionAt(made), ""); a.Status != 200 || a.JSON["status"] != status[state] {
			t.Errorf("%s: %d %s", state, a.Status, a.Body)
		}
		for name, c := range map[string]struct {
			method, path, body string
			good               map[string]int // status by state; else it is in none in which this can be done
		}{
			"change":   {"PATCH", "", `{"amount":"901"}`, map[string]int{"waiting": 200}},
			"withdraw": {"DELETE", "", "", map[string]int{"waiting": 204, "approved": 204}},
			"consume":  {"POST", "/consume", "", map[string]int{"approved": 200}},
		} {
			t.Run(state+": "+name, func(t *testing.T) {
				made, body := way(t), c.body
				if name == "consume" {
					body = asJSON(t, map[string]any{"digest": made["digest"]})
				}
				transactionRefused(t, other.call(t, c.method, transactionAt(made)+c.path, body), 403, fapi.AccessDenied)
				a := f.core.call(t, c.method, transactionAt(made)+c.path, body)
				if want, good := c.good[state]; good {
					if a.Status != want {
						t.Errorf("%d %s", a.Status, a.Body)
					}
					return
				}
				transactionRefused(t, a, 409, consent.InvalidStatus)
			})
		}
	}
	for _, id := range []string{uuid.NewString(), "x", strings.Repeat("a", 36), "%00"} {
		for method, path := range map[string]string{"GET": "", "PATCH": "", "DELETE": "", "POST": "/consume"} {
			body := ""
			if method == "PATCH" || method == "POST" {
				body = `{"amount":"1"}`
			}
			transactionRefused(t, f.core.call(t, method, transactionsAPI+"/"+id+path, body), 404, consent.UnknownTransaction)
		}
	}
	made := f.start(t, low)
	transactionRefused(t, other.call(t, "GET", transactionAt(made), ""), 403, fapi.AccessDenied)
	transactionRefused(t, f.core.call(t, "GET", transactionAt(made), "", "X-Fapi-Interaction-Id", "x"), 400, fapi.InvalidRequest)
	interaction := uuid.NewString()
	if a := f.core.call(t, "GET", transactionAt(made), "", "X-Fapi-Interaction-Id", interaction); a.Header.Get("X-Fapi-Interaction-Id") != interaction {
		t.Errorf("%v", a.Header)
	}
}

// RTS art. 5(1)(c), (d): what is consumed is what was approved, to the letter, and what is changed was approved by nobody.
func TestTransactions_ChangedAndConsumed(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authztest.Options{Transactions: consent.TransactionLimits{MaxOpen: 100}})
	details := func(changes map[string]any) string {
		d := f.payment(changes)
		delete(d, "sub")
		delete(d, "mandate")
		delete(d, "type")
		return asJSON(t, d)
	}
	approved := func(t *testing.T) map[string]any {
		made := f.start(t, nil)
		f.approves(t, "first", made)
		f.approves(t, "second", made)
		return made
	}
	made := approved(t)
	for name, c := range map[string]struct {
		body   string
		status int
		code   fapi.Code
	}{
		"another amount":         {details(map[string]any{"amount": "1500.01"}), 409, fapi.DigestMismatch},
		"another currency":       {details(map[string]any{"currency": "USD"}), 409, fapi.DigestMismatch},
		"another payee":          {details(map[string]any{"payee": map[string]any{"name": "Acme Feeds", "account": "DE99"}}), 409, fapi.DigestMismatch},
		"another reference":      {details(map[string]any{"reference": "Invoice 8"}), 409, fapi.DigestMismatch},
		"no reference":           {details(map[string]any{"reference": nil}), 409, fapi.DigestMismatch},
		"another account":        {details(map[string]any{"from_account": "•••• 4822"}), 409, fapi.DigestMismatch},
		"another digest":         {asJSON(t, map[string]any{"digest": f.start(t, nil)["digest"]}), 409, fapi.DigestMismatch},
		"a digest and details":   {`{"digest":"` + made["digest"].(string) + `","amount":"1500"}`, 400, fapi.InvalidRequest},
		"a digest that is short": {`{"digest":"AAAA"}`, 400, fapi.InvalidRequest},
		"neither":                {`{}`, 400, fapi.InvalidRequest},
		"a part of the details":  {`{"amount":"1500","currency":"EUR"}`, 400, fapi.InvalidRequest},
		"no body":                {``, 400, fapi.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			transactionRefused(t, f.core.call(t, "POST", transactionAt(made)+"/consume", c.body), c.status, c.code)
		})
	}
	for name, body := range map[string]string{"by details": details(map[string]any{"amount": "01500.00"}), "by digest": ""} {
		made := approved(t)
		if body == "" {
			body = asJSON(t, map[string]any{"digest": made["digest"]})
		}
		if a := f.core.call(t, "POST", transactionAt(made)+"/consume", body); a.Status != 200 || a.JSON["status"] != "consumed" {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		transactionRefused(t, f.core.call(t, "POST", transactionAt(made)+"/consume", body), 409, consent.InvalidStatus)
	}

	made = f.start(t, nil)
	f.approves(t, "first", made)
	a := f.core.call(t, "PATCH", transactionAt(made), `{"payee":{"account":"DE99"}}`)
	many, _ := a.JSON["multi_authorisation"].(map[string]any)
	payee, _ := a.JSON["payee"].(map[string]any)
	if a.Status != 200 || a.JSON["revision"] != 2.0 || a.JSON["digest"] == made["digest"] || many["number_received"] != 0.0 || payee["name"] != "Acme Feeds" || payee["account"] != "DE99" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a = f.core.call(t, "PATCH", transactionAt(made), `{"amount":"1500.0"}`); a.Status != 200 || a.JSON["revision"] != 2.0 {
		t.Errorf("what changes nothing: %d %s", a.Status, a.Body)
	}
	if a = f.core.call(t, "PATCH", transactionAt(made), `{"amount":"999"}`); a.Status != 200 || a.JSON["multi_authorisation"].(map[string]any)["number_required"] != 1.0 {
		t.Errorf("into a lower tier: %d %s", a.Status, a.Body)
	}
	for name, c := range map[string]struct {
		body   string
		status int
		code   fapi.Code
	}{
		"above the mandate":      {`{"amount":"50001"}`, 403, consent.LimitExceeded},
		"another type":           {`{"type":"order"}`, 400, fapi.InvalidRequest},
		"another starter":        {`{"sub":"` + f.people["first"].String() + `"}`, 400, fapi.InvalidRequest},
		"another mandate":        {`{"mandate":"` + uuid.NewString() + `"}`, 400, fapi.InvalidRequest},
		"an amount of nothing":   {`{"amount":"0"}`, 400, fapi.InvalidRequest},
		"a payee of nothing":     {`{"payee":{"name":""}}`, 400, fapi.InvalidRequest},
		"a member twice":         {`{"amount":"1","amount":"2"}`, 400, fapi.InvalidRequest},
		"a payee's member twice": {`{"payee":{"name":"A","name":"B"}}`, 400, fapi.InvalidRequest},
	} {
		t.Run("change to "+name, func(t *testing.T) {
			transactionRefused(t, f.core.call(t, "PATCH", transactionAt(made), c.body), c.status, c.code)
		})
	}
}

// How long one waits, and how many.
func TestTransactions_Limits(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authztest.Options{Transactions: consent.TransactionLimits{Lifetime: time.Hour, MaxOpen: 3}})
	for seconds, want := range map[any]time.Duration{nil: time.Hour, 60: time.Minute, 86400: time.Hour} {
		made := f.start(t, map[string]any{"expires_in": seconds})
		created, _ := time.Parse(time.RFC3339, made["created_at"].(string))
		ends, _ := time.Parse(time.RFC3339, made["expires_at"].(string))
		if lasts := ends.Sub(created); lasts < want-2*time.Second || lasts > want+2*time.Second {
			t.Errorf("expires_in %v: %v", seconds, lasts)
		}
	}
	transactionRefused(t, f.core.call(t, "POST", transactionsAPI, asJSON(t, f.payment(nil)), "X-Idempotency-Key", "fourth"), 429, consent.TooManyTransactions)
	f.s.SQL(t, `UPDATE transactions SET expires_at = now() WHERE id = (SELECT id FROM transactions LIMIT 1)`)
	f.start(t, nil)
}

// What a backend's calls cost beside the look at its token. What the pages cost, consent's own tests hold.
func TestTransactions_Budget(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authztest.Options{Transactions: consent.TransactionLimits{MaxOpen: 100}})
	at := func(approved bool, call func(t *testing.T, made map[string]any) *authztest.Answer) func(*testing.T, *authztest.Server) func(*testing.T) *authztest.Answer {
		return func(t *testing.T, _ *authztest.Server) func(*testing.T) *authztest.Answer {
			made := f.start(t, map[string]any{"mandate": nil}) // of which nobody else is told
			if approved {
				f.approves(t, "maker", made)
			}
			return func(t *testing.T) *authztest.Answer { return call(t, made) }
		}
	}
	const token = 1
	for _, b := range []flow{
		{"started", token + 1, token + 4, 0, at(false, func(t *testing.T, _ map[string]any) *authztest.Answer {
			return f.core.call(t, "POST", transactionsAPI, asJSON(t, f.payment(map[string]any{"mandate": nil})), "X-Idempotency-Key", uuid.NewString())
		})},
		{"read", token + 1, token + 2, 0, at(false, func(t *testing.T, made map[string]any) *authztest.Answer {
			return f.core.call(t, "GET", transactionAt(made), "")
		})},
		{"changed", token + 3, token + 7, 0, at(false, func(t *testing.T, made map[string]any) *authztest.Answer {
			return f.core.call(t, "PATCH", transactionAt(made), `{"amount":"901"}`)
		})},
		{"withdrawn", token + 1, token + 1, 0, at(false, func(t *testing.T, made map[string]any) *authztest.Answer {
			return f.core.call(t, "DELETE", transactionAt(made), "")
		})},
		{"consumed", token + 2, token + 3, 0, at(true, func(t *testing.T, made map[string]any) *authztest.Answer {
			return f.core.call(t, "POST", transactionAt(made)+"/consume", asJSON(t, map[string]any{"digest": made["digest"]}))
		})},
	} {
		t.Run(b.name, func(t *testing.T) { b.check(t, f.s) })
	}
}
