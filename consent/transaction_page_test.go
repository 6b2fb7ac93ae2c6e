package consent

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// D5, D6: somebody starts, two others approve by codes that name amount and payee, the client does it once.
func TestTransaction_MakerAndApprovers(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	m := f.start(nil)
	alice, bob, carol, eve := f.browser("alice"), f.browser("bob"), f.browser("carol"), f.browser("eve")

	if p := alice.show(m.ID); p.id != "transaction_page" || !p.has("why") || p.has("send_button") || !p.has("reject_button") {
		t.Errorf("the maker: %d %s", p.StatusCode, p.body)
	}
	if p := eve.show(m.ID); p.StatusCode != http.StatusNotFound || p.id != "error_page" {
		t.Errorf("a stranger: %d %s", p.StatusCode, p.id)
	}
	if p := eve.get(TransactionsPath); p.id != "transactions_page" || !p.has("none_waiting") {
		t.Errorf("a stranger's list: %d", p.StatusCode)
	}
	list := bob.get(TransactionsPath)
	if list.id != "transactions_page" || !strings.Contains(list.body, "1 500 EUR") || !strings.Contains(list.body, pathOf(m.ID)) {
		t.Fatalf("the approver's list: %s", list.body)
	}
	p := bob.show(m.ID)
	for _, text := range []string{"1 500 EUR", "Acme Feeds", "DE02100100109307118603", "Invoice 7", "•••• 4821", "Meadow Dairy", "Alice Doe", "The app backend", "0 of 2 approvals"} {
		if !strings.Contains(p.body, text) {
			t.Errorf("the page does not say %q", text)
		}
	}
	bob.post(pathOf(m.ID), "do", "send", "digest", p.digest(), "factor", f.emails["bob"].String()).leads(t, m.ID, "?sent="+f.emails["bob"].String())
	sent := f.outbox()
	if len(sent) != 1 || sent[0].To != "bob@meadow.example" {
		t.Fatalf("%+v", sent)
	}
	// RTS art. 5(1)(a): the payer is made aware of the amount and of the payee, in the message too.
	for _, text := range []string{"1 500 EUR", "Acme Feeds", "DE02100100109307118603"} {
		if !strings.Contains(sent[0].Text, text) {
			t.Errorf("the message does not say %q: %s", text, sent[0].Text)
		}
	}
	typing := bob.get(pathOf(m.ID) + "?sent=" + f.emails["bob"].String())
	if !typing.has("code") || !strings.Contains(typing.body, "1 500 EUR") || !strings.Contains(typing.body, "b•••@meadow.example") || strings.Contains(typing.body, "bob@meadow") {
		t.Errorf("where the code is typed: %s", typing.body)
	}
	bob.type_(m.ID, typing.digest(), codeIn.FindString(sent[0].Text)).leads(t, m.ID, "?approved")
	f.is(m.ID, storage.AwaitingApproval, 1, 2)
	if p := bob.get(pathOf(m.ID) + "?approved"); !p.has("notice") || !p.has("why") || p.has("send_button") || !strings.Contains(p.body, "Bob Ray") {
		t.Errorf("after the approval: %s", p.body)
	}
	if p := bob.get(TransactionsPath); !p.has("none_waiting") {
		t.Error("it still waits for who has approved it")
	}
	carol.approves(m.ID).leads(t, m.ID, "?approved")
	f.is(m.ID, storage.ApprovedTransaction, 2, 2)
	if p := alice.show(m.ID); !strings.Contains(p.body, "Carol Kim") || !p.has("state") || p.has("reject_button") {
		t.Errorf("the maker, after all: %s", p.body)
	}
	if got := read(t, f.api(t, "POST", transactionAPI2(m.ID)+"/consume", `{"digest":"`+m.Digest+`"}`)); got.Status != storage.ConsumedTransaction {
		t.Errorf("%d %s", got.StatusCode, got.raw)
	}
	if n := f.count(`SELECT count(*) FROM events WHERE kind = 'transaction.approved' AND visit IS NOT NULL`); n != 2 {
		t.Errorf("%d events", n)
	}
	if len(f.failed) > 0 {
		t.Error(f.failed)
	}
}

func transactionAPI2(id uuid.UUID) string { return transactionsAPI + "/" + id.String() }

// RTS art. 5(1)(b) to (d): what was given for one amount and payee is good for no other, and once.
func TestTransaction_DynamicLinking(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	bob, carol := f.browser("bob"), f.browser("carol")
	k := f.passkey("bob")
	passkey := func(v *visitor, id uuid.UUID, digest, state, response string) shown {
		return v.post(pathOf(id), "do", "passkey", "digest", digest, "state", state, "response", response)
	}
	change := func(t *testing.T, id uuid.UUID, body string) {
		t.Helper()
		if m := read(t, f.api(t, "PATCH", transactionAPI2(id), body)); m.StatusCode != http.StatusOK || m.Revision < 2 {
			t.Fatalf("%d %s", m.StatusCode, m.raw)
		}
	}
	untouched := func(t *testing.T, id uuid.UUID) {
		t.Helper()
		f.is(id, storage.AwaitingApproval, 0, 2)
		f.exec(`DELETE FROM limits`) // wrong answers of a passkey's make one wait
	}

	for name, body := range map[string]string{
		"amount": `{"amount":"1500.01"}`, "currency and amount": `{"currency":"EUR","amount":"2000"}`, "payee's name": `{"payee":{"name":"Acme Feed"}}`,
		"payee's account": `{"payee":{"account":"DE99"}}`, "reference": `{"reference":"Invoice 8"}`, "account": `{"from_account":"•••• 4822"}`,
	} {
		t.Run("changed between show and approve: "+name, func(t *testing.T) {
			m := f.start(nil)
			p := bob.show(m.ID)
			code := bob.code(p, m.ID)
			state, response := k.answer(t, p)
			change(t, m.ID, body)
			bob.type_(m.ID, p.digest(), code).leads(t, m.ID, "?changed")
			passkey(bob, m.ID, p.digest(), state, response).leads(t, m.ID, "?changed")
			now := bob.get(pathOf(m.ID) + "?changed")
			if !now.has("notice") || now.digest() == p.digest() {
				t.Error("the page does not say that it was changed")
			}
			if got := bob.type_(m.ID, now.digest(), code); got.StatusCode != http.StatusForbidden || got.problem() == "" {
				t.Errorf("the code for what it was: %d %q", got.StatusCode, got.problem())
			}
			if got := passkey(bob, m.ID, now.digest(), state, response); got.StatusCode != http.StatusForbidden || got.problem() == "" {
				t.Errorf("the passkey's answer for what it was: %d %q", got.StatusCode, got.problem())
			}
			untouched(t, m.ID)
		})
	}
	t.Run("of A for B", func(t *testing.T) {
		a, b := f.start(nil), f.start(nil) // the same to the letter
		pa, pb := bob.show(a.ID), bob.show(b.ID)
		code := bob.code(pa, a.ID)
		if got := bob.type_(b.ID, pb.digest(), code); got.StatusCode != http.StatusForbidden {
			t.Errorf("a code: %d", got.StatusCode)
		}
		state, response := k.answer(t, pa)
		if got := passkey(bob, b.ID, pb.digest(), state, response); got.StatusCode != http.StatusForbidden {
			t.Errorf("a passkey's answer: %d", got.StatusCode)
		}
		stateB, _ := k.answer(t, pb)
		if got := passkey(bob, b.ID, pb.digest(), stateB, response); got.StatusCode != http.StatusForbidden {
			t.Errorf("a passkey's answer with the other's state: %d", got.StatusCode)
		}
		bob.type_(b.ID, pa.digest(), code).leads(t, b.ID, "?changed") // of the other's digest
		untouched(t, b.ID)
		f.exec(`DELETE FROM limits`)
		passkey(bob, a.ID, pa.digest(), state, response).leads(t, a.ID, "?approved") // nothing else was wrong
		f.is(a.ID, storage.AwaitingApproval, 1, 2)
	})
	t.Run("of a login", func(t *testing.T) {
		m := f.start(nil)
		p := bob.show(m.ID)
		v := &storage.Visitor{Login: storage.Login{CustomerID: f.people["bob"]}}
		for _, purpose := range []string{"login", "recovery", "enrol"} {
			if err := f.authn.SendCode(t.Context(), authn.CodeRequest{CustomerID: v.CustomerID, To: authn.Destination{Channel: authn.ChannelEmail, Address: "bob@meadow.example"},
				Purpose: purpose, Binding: f.look(m.ID).digestBytes(t)}); err != nil {
				t.Fatal(err)
			}
			all := f.outbox()
			if got := bob.type_(m.ID, p.digest(), codeIn.FindString(all[len(all)-1].Text)); got.StatusCode != http.StatusForbidden {
				t.Errorf("%s: %d", purpose, got.StatusCode)
			}
		}
		untouched(t, m.ID)
	})
	t.Run("of a transaction for a login", func(t *testing.T) {
		m := f.start(nil)
		code := bob.code(bob.show(m.ID), m.ID)
		if _, err := f.authn.CheckCode(t.Context(), f.people["bob"], "login", m.digestBytes(t), code); !errors.Is(err, authn.ErrWrongCode) {
			t.Errorf("%v", err)
		}
	})
	t.Run("of another person", func(t *testing.T) {
		m := f.start(nil)
		code := bob.code(bob.show(m.ID), m.ID)
		p := carol.show(m.ID)
		if got := carol.type_(m.ID, p.digest(), code); got.StatusCode != http.StatusForbidden {
			t.Errorf("a code: %d", got.StatusCode)
		}
		if got := carol.post(pathOf(m.ID), "do", "approve", "digest", p.digest(), "factor", f.emails["bob"].String(), "code", code); got.StatusCode != http.StatusForbidden {
			t.Errorf("with their factor: %d", got.StatusCode)
		}
		state, response := k.answer(t, bob.show(m.ID))
		if got := passkey(carol, m.ID, p.digest(), state, response); got.StatusCode != http.StatusForbidden {
			t.Errorf("a passkey: %d", got.StatusCode)
		}
		untouched(t, m.ID)
	})
	t.Run("after a newer one", func(t *testing.T) {
		m := f.start(nil)
		p := bob.show(m.ID)
		older := bob.code(p, m.ID)
		newer := bob.code(p, m.ID)
		if got := bob.type_(m.ID, p.digest(), older); older != newer && got.StatusCode != http.StatusForbidden {
			t.Errorf("%d", got.StatusCode)
		}
		untouched(t, m.ID)
	})
	t.Run("expired", func(t *testing.T) {
		m := f.start(nil)
		p := bob.show(m.ID)
		code := bob.code(p, m.ID)
		f.exec(`UPDATE one_time_codes SET expires_at = now()`)
		if got := bob.type_(m.ID, p.digest(), code); got.StatusCode != http.StatusForbidden {
			t.Errorf("%d", got.StatusCode)
		}
		untouched(t, m.ID)
	})
	t.Run("guessed", func(t *testing.T) {
		m := f.start(nil)
		p := bob.show(m.ID)
		code := bob.code(p, m.ID)
		wrong := "000000"
		if code == wrong {
			wrong = "000001"
		}
		for range 5 {
			if got := bob.type_(m.ID, p.digest(), wrong); got.StatusCode != http.StatusForbidden {
				t.Errorf("%d", got.StatusCode)
			}
		}
		if got := bob.type_(m.ID, p.digest(), code); got.StatusCode != http.StatusForbidden {
			t.Errorf("the right one, too late: %d", got.StatusCode)
		}
		untouched(t, m.ID)
	})
	t.Run("replayed", func(t *testing.T) {
		m := f.start(nil)
		p := bob.show(m.ID)
		code := bob.code(p, m.ID)
		bob.type_(m.ID, p.digest(), code).leads(t, m.ID, "?approved")
		bob.type_(m.ID, p.digest(), code).leads(t, m.ID, "") // which says that they have
		state, response := k.answer(t, p)
		passkey(bob, m.ID, p.digest(), state, response).leads(t, m.ID, "")
		f.is(m.ID, storage.AwaitingApproval, 1, 2)
		change(t, m.ID, `{"amount":"1600"}`) // the same person may approve again
		now := bob.show(m.ID)
		if got := bob.type_(m.ID, now.digest(), code); got.StatusCode != http.StatusForbidden {
			t.Errorf("%d", got.StatusCode)
		}
		if got := passkey(bob, m.ID, now.digest(), state, response); got.StatusCode != http.StatusForbidden {
			t.Errorf("%d", got.StatusCode)
		}
		untouched(t, m.ID)
	})
	t.Run("the wait is over", func(t *testing.T) {
		m := f.start(nil)
		p := bob.show(m.ID)
		code := bob.code(p, m.ID)
		f.exec(`UPDATE transactions SET expires_at = now() WHERE id = $1`, [16]byte(m.ID))
		bob.type_(m.ID, p.digest(), code).leads(t, m.ID, "")
		f.is(m.ID, storage.ExpiredTransaction, 0, 2)
		if p := bob.show(m.ID); !p.has("state") || p.has("reject_button") {
			t.Errorf("%s", p.body)
		}
	})
	t.Run("the row was changed by other ways", func(t *testing.T) {
		m := f.start(nil)
		f.exec(`UPDATE transactions SET revision = 2 WHERE id = $1`, [16]byte(m.ID))
		if p := bob.show(m.ID); p.StatusCode != http.StatusInternalServerError {
			t.Errorf("%d", p.StatusCode)
		}
		if got := f.look(m.ID); got.StatusCode != http.StatusInternalServerError {
			t.Errorf("%d", got.StatusCode)
		}
	})
}

// A code of an authenticator app says nothing of amount and payee, so none does unless the institution takes it.
func TestTransaction_AppCodes(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	f.exec(`DELETE FROM second_factors`)
	app := f.factor("bob", storage.TOTP, "never read")
	m := f.start(nil)
	bob := f.browser("bob")
	p := bob.show(m.ID)
	if !p.has("no_way") || !p.has("add_link") || p.has("send_button") {
		t.Errorf("%s", p.body)
	}
	if got := bob.post(pathOf(m.ID), "do", "approve", "digest", p.digest(), "factor", app.String(), "code", "123456"); got.StatusCode != http.StatusForbidden {
		t.Errorf("%d", got.StatusCode)
	}
	bob.post(pathOf(m.ID), "do", "send", "digest", p.digest(), "factor", app.String()).leads(t, m.ID, "")
	f.is(m.ID, storage.AwaitingApproval, 0, 2)
}

// E4, issue 6 deliver 5: above an amount, SMS does not do, and the factor must be fresh.
func TestTransaction_Rules(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{Rules: []authn.TransactionRule{
		{Above: map[string]string{"EUR": "1000"}, Rule: authn.Rule{ACR: authn.SCA, FactorMaxAge: 5 * time.Minute, Without: []string{storage.SMSFactor}}},
	}})
	sms := f.factor("bob", storage.SMSFactor, map[string]string{"address": "+254700123456"})
	high, low := f.start(nil), f.start(map[string]any{"amount": "1000"})
	bob := f.browser("bob")
	p := bob.show(low.ID)
	if !strings.Contains(p.body, "•••• 3456") || !strings.Contains(p.body, "b•••@meadow.example") {
		t.Errorf("a low amount: %s", p.body)
	}
	bob.post(pathOf(low.ID), "do", "send", "digest", p.digest(), "factor", sms.String()).leads(t, low.ID, "?sent="+sms.String())
	if all := f.outbox(); len(all) != 1 || all[0].Channel != authn.ChannelSMS || !strings.Contains(all[0].Text, "1 000 EUR to Acme Feeds") {
		t.Errorf("%+v", all)
	}
	p = bob.show(high.ID)
	if strings.Contains(p.body, "3456") || !strings.Contains(p.body, "b•••@meadow.example") {
		t.Errorf("a high amount: %s", p.body)
	}
	bob.post(pathOf(high.ID), "do", "send", "digest", p.digest(), "factor", sms.String()).leads(t, high.ID, "")
	if len(f.outbox()) != 0 {
		t.Error("a text message was sent")
	}
	f.exec(`UPDATE logins SET factor_at = now() - interval '6 minutes', auth_time = now() - interval '6 minutes'`)
	if p := bob.show(low.ID); p.id != "transaction_page" {
		t.Errorf("a low amount by an older login: %d", p.StatusCode)
	}
	if p := bob.show(high.ID); p.id == "transaction_page" || p.StatusCode != http.StatusSeeOther && p.id != "second_factor_page" {
		t.Errorf("a high amount by an older login: %d %s", p.StatusCode, p.id)
	}
	if p := bob.post(pathOf(high.ID), "do", "approve", "digest", p.digest(), "factor", f.emails["bob"].String(), "code", "123456"); p.id == "transaction_page" {
		t.Errorf("%d", p.StatusCode)
	}
}

// D6: a transaction password beside the code, with its own limit, and never that of the login.
func TestTransaction_Password(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{Password: true})
	bob := f.browser("bob")
	m := f.start(nil)
	p := bob.show(m.ID)
	if !p.has("set_password_link") || p.has("send_button") {
		t.Fatalf("without one: %s", p.body)
	}
	code := bob.code(p, m.ID)
	if got := bob.type_(m.ID, p.digest(), code, "transaction_password", ""); got.StatusCode != http.StatusForbidden {
		t.Errorf("without one: %d", got.StatusCode)
	}
	f.exec(`DELETE FROM limits`)
	const password = "seven quiet otters downstream"
	for name, c := range map[string]struct {
		password string
		status   int
	}{"short": {"short", 422}, "that of the login": {loginPassword, 422}, "common": {"passwordpassword", 422}} {
		if got := bob.post("/self/transaction-password", "password", c.password); got.StatusCode != c.status || got.problem() == "" {
			t.Errorf("%s: %d %q", name, got.StatusCode, got.problem())
		}
	}
	if got := bob.post("/self/transaction-password", "password", password); got.StatusCode != http.StatusSeeOther {
		t.Fatalf("%d %s", got.StatusCode, got.problem())
	}
	for name, current := range map[string]string{"without the one before": "", "with another": "not the password at all"} {
		if got := bob.post("/self/transaction-password", "current", current, "password", "another long sentence here"); got.StatusCode != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", name, got.StatusCode)
		}
	}
	f.exec(`DELETE FROM limits`)
	p = bob.show(m.ID)
	code = bob.code(p, m.ID)
	for name, c := range map[string]struct {
		fields  []string
		problem string
	}{
		"none":              {nil, "The transaction password is not right."},
		"that of the login": {[]string{"transaction_password", loginPassword}, "The transaction password is not right."},
		"another":           {[]string{"transaction_password", password + "!"}, "The transaction password is not right."},
	} {
		if got := bob.type_(m.ID, p.digest(), code, c.fields...); got.StatusCode != http.StatusForbidden || got.problem() != c.problem {
			t.Errorf("%s: %d %q", name, got.StatusCode, got.problem())
		}
	}
	f.is(m.ID, storage.AwaitingApproval, 0, 2)
	bob.type_(m.ID, p.digest(), code, "transaction_password", password).leads(t, m.ID, "?approved") // a wrong password cost no code
	f.is(m.ID, storage.AwaitingApproval, 1, 2)

	other := f.start(nil)
	p = bob.show(other.ID)
	code = bob.code(p, other.ID)
	for range 6 {
		bob.type_(other.ID, p.digest(), code, "transaction_password", "guessing guessing guessing")
	}
	got := bob.type_(other.ID, p.digest(), code, "transaction_password", password)
	if got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" || got.problem() == "" {
		t.Errorf("after too many: %d %q", got.StatusCode, got.problem())
	}
	f.is(other.ID, storage.AwaitingApproval, 0, 2)
}

// What a form may bring.
func TestTransaction_Forms(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	m := f.start(nil)
	bob := f.browser("bob")
	p := bob.show(m.ID)
	digest := p.digest()
	for name, c := range map[string]struct {
		fields []string
		status int
	}{
		"nothing":                 {nil, 303},
		"no digest":               {[]string{"do", "reject"}, 303},
		"a digest that is none":   {[]string{"do", "reject", "digest", "!"}, 303},
		"another digest":          {[]string{"do", "reject", "digest", strings.Repeat("A", 43)}, 303},
		"no deed":                 {[]string{"digest", digest}, 400},
		"another deed":            {[]string{"digest", digest, "do", "consume"}, 400},
		"a deed twice":            {[]string{"digest", digest, "do", "reject", "do", "approve"}, 400},
		"a digest twice":          {[]string{"digest", digest, "digest", digest, "do", "reject"}, 400},
		"what is no text":         {[]string{"digest", digest, "do", "reject", "reason", "\xff"}, 400},
		"too much":                {[]string{"digest", digest, "do", "reject", "reason", strings.Repeat("x", maxTransactionForm)}, 400},
		"no factor":               {[]string{"digest", digest, "do", "send"}, 303},
		"a factor that is none":   {[]string{"digest", digest, "do", "approve", "factor", "x", "code", "123456"}, 403},
		"no code":                 {[]string{"digest", digest, "do", "approve", "factor", f.emails["bob"].String()}, 403},
		"a passkey without one":   {[]string{"digest", digest, "do", "passkey", "state", "", "response", ""}, 403},
		"somebody else's factor":  {[]string{"digest", digest, "do", "send", "factor", f.emails["carol"].String()}, 303},
		"a code that nobody sent": {[]string{"digest", digest, "do", "approve", "factor", f.emails["bob"].String(), "code", "123456"}, 403},
	} {
		if got := bob.post(pathOf(m.ID), c.fields...); got.StatusCode != c.status {
			t.Errorf("%s: %d, want %d", name, got.StatusCode, c.status)
		}
	}
	f.is(m.ID, storage.AwaitingApproval, 0, 2)
	if len(f.outbox()) != 0 {
		t.Error("something was sent")
	}
	for _, path := range []string{TransactionsPath + "/" + uuid.NewString(), TransactionsPath + "/" + strings.Repeat("a", 36)} {
		if got := bob.get(path); got.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.StatusCode)
		}
	}
	for path, method := range map[string]string{TransactionsPath: "POST", pathOf(m.ID): "DELETE"} {
		if got := bob.send(method, path, nil); got.StatusCode != http.StatusMethodNotAllowed && got.StatusCode != http.StatusForbidden || method == "POST" && !strings.Contains(got.Header.Get("Allow"), "GET") {
			t.Errorf("%s %s: %d", method, path, got.StatusCode)
		}
	}
	stranger := &visitor{f, f.branch, "bob", ""}
	for _, path := range []string{TransactionsPath, pathOf(m.ID)} {
		if got := stranger.get(path); got.StatusCode != http.StatusSeeOther && got.id != "login_page" {
			t.Errorf("%s without a login: %d %s", path, got.StatusCode, got.id)
		}
	}
	other := request{"POST", pathOf(m.ID), "do=reject&digest=" + digest, []string{"Cookie", "__Host-login=" + bob.cookie, "Content-Type", "application/x-www-form-urlencoded", "Origin", "https://evil.example"}}
	if got := (&bundle{server: f.server}).send(t, other); got.StatusCode != http.StatusForbidden {
		t.Errorf("CSRF: %d", got.StatusCode)
	}
	f.is(m.ID, storage.AwaitingApproval, 0, 2)
}

func TestTransaction_Reject(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	for name, who := range map[string]string{"an approver": "bob", "the maker": "alice"} {
		m := f.start(nil)
		v := f.browser(who)
		v.post(pathOf(m.ID), "do", "reject", "digest", v.show(m.ID).digest(), "reason", "Not <b>ours</b>\u202e").leads(t, m.ID, "?rejected")
		got := f.look(m.ID)
		if got.Status != storage.RejectedTransaction || !strings.Contains(got.raw, `"rejection":{"sub":"sub-`+f.people[who].String()) || strings.Contains(got.raw, "ours") {
			t.Errorf("%s: %s", name, got.raw)
		}
		p := f.browser("carol").show(m.ID)
		if !strings.Contains(p.body, "Not &lt;b&gt;ours&lt;/b&gt;") || strings.Contains(p.body, "\u202e") || p.has("send_button") {
			t.Errorf("%s: %s", name, p.body)
		}
		f.browser("carol").post(pathOf(m.ID), "do", "reject", "digest", m.Digest).leads(t, m.ID, "")
	}
	m := f.start(map[string]any{"mandate": nil})
	if got := f.browser("bob").post(pathOf(m.ID), "do", "reject", "digest", m.Digest); got.StatusCode != http.StatusNotFound {
		t.Errorf("somebody else's: %d", got.StatusCode)
	}
}

// A customer's own needs nobody else.
func TestTransaction_Own(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	m := f.start(map[string]any{"mandate": nil, "amount": "99999999"})
	alice := f.browser("alice")
	if p := alice.get(TransactionsPath); !strings.Contains(p.body, "99 999 999 EUR") {
		t.Error("it does not wait for its customer")
	}
	alice.approves(m.ID).leads(t, m.ID, "?approved")
	f.is(m.ID, storage.ApprovedTransaction, 1, 1)
	alice.show(m.ID)
}

// Round trips: the login, then the transaction with all that is known of it.
func TestTransaction_Budget(t *testing.T) {
	t.Parallel()
	f := newFirm(t, authn.Transactions{})
	bob := f.browser("bob")
	var m made
	var p shown
	var code string
	k := f.passkey("bob")
	for _, c := range []struct {
		what string
		do   func()
		most int
	}{
		{"start", func() { m = f.start(nil) }, 1},
		{"read", func() { f.look(m.ID) }, 1},
		{"list", func() { bob.get(TransactionsPath) }, 2},
		{"show", func() { p = bob.show(m.ID) }, 2},
		{"send", func() { bob.post(pathOf(m.ID), "do", "send", "digest", p.digest(), "factor", f.emails["bob"].String()) }, 3},
		{"approve by code", func() { bob.type_(m.ID, p.digest(), code) }, 4},
		{"change", func() { f.api(t, "PATCH", transactionAPI2(m.ID), `{"amount":"1600"}`) }, 3},
		{"show again", func() { p = bob.show(m.ID) }, 2},
		{"approve by passkey", func() {
			state, response := k.answer(t, p)
			bob.post(pathOf(m.ID), "do", "passkey", "digest", p.digest(), "state", state, "response", response).leads(t, m.ID, "?approved")
		}, 4},
		{"withdraw", func() { f.api(t, "DELETE", transactionAPI2(m.ID), "") }, 1},
	} {
		if c.what == "approve by code" {
			all := f.outbox()
			code = codeIn.FindString(all[0].Text)
		}
		if n := f.cost(c.do); n > c.most {
			t.Errorf("%s: %d round trips, at most %d", c.what, n, c.most)
		}
	}
	f.is(m.ID, storage.VoidedTransaction, 1, 2)
}
