package authz_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/reach"
	"github.com/countersign/countersign/storage"
)

// Push bombing: how often somebody's phone rings, or their mailbox, in an hour, by whoever wants it to: a stranger, somebody who has the
// password, a client. Each way alone is tried far more often, and all of them for one customer (docs/threats.md has the numbers).
func TestPushBombing(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{
		Channels: func(*authztest.Server) []reach.Channel { return []reach.Channel{sink(reach.KindEmail)} },
		Authn:    func(c *authn.Config) { c.AddressAttempts = 1 << 20 }, // of as many machines as it takes
	})
	alice, err := s.DB.FindCustomer(t.Context(), "default", authztest.Username)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DB.ChangeProfile(t.Context(), alice.ID, func(p *storage.Profile) error { p.EmailVerified = true; return nil }); err != nil {
		t.Fatal(err)
	}
	factor := storage.NewID()
	s.SQL(t, `INSERT INTO second_factors (id, customer_id, kind, secret, confirmed_at) VALUES ($1, $2, 'email', $3, now())`,
		[16]byte(factor), [16]byte(alice.ID), s.DB.Keys().Seal("second_factors.secret", factor[:], []byte(`{"address":"alice@example.com"}`)))
	s.SQL(t, `CREATE TABLE rung (kind text)`)
	s.SQL(t, `CREATE FUNCTION rings() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO rung VALUES (NEW.kind); RETURN NULL; END $$`)
	s.SQL(t, `CREATE TRIGGER rings AFTER INSERT ON notifications FOR EACH ROW WHEN (NEW.kind IN ('message', 'approval')) EXECUTE FUNCTION rings()`)

	thief := newVisitor(t, s)
	thief.do(t, http.MethodPost, "/login", url.Values{"username": {authztest.Username}, "password": {authztest.Password}})
	speaker := addBackchannel(t, s, "speaker", fapi.PrivateKeyJWT, fapi.Poll, nil)
	stranger := func() *visitor { return newVisitor(t, s) }
	total := 0
	for _, way := range []struct {
		name  string
		most  int // and one at least
		times int
		ring  func(i int)
	}{
		{"codes at login, by who has the password", 3, 20, func(int) {
			thief.do(t, http.MethodPost, "/login/second-factor", url.Values{"kind": {storage.EmailFactor}, "send": {"1"}})
		}},
		{"codes by Fineract's API, by who has the password", 0, 20, func(int) { // the same three
			basic := base64.StdEncoding.EncodeToString([]byte(authztest.Username + ":" + authztest.Password))
			stranger().do(t, http.MethodPost, "/fineract-provider/api/v1/twofactor?deliveryMethod=email", nil, "Fineract-Platform-TenantId", "default", "Authorization", "Basic "+basic)
		}},
		{"recovery, by anybody", 3, 12, func(int) {
			stranger().do(t, http.MethodPost, "/recover", url.Values{"username": {authztest.Username}})
		}},
		{"sign-ups with her address, by anybody", 3, 12, func(i int) {
			stranger().do(t, http.MethodPost, "/sign-up", url.Values{"username": {fmt.Sprint("mallory", i)}, "name": {"M"}, "email": {"Alice@Example.com"}, "password": {"eleven angry geese on ice"}})
		}},
		{"CIBA, by a client whose requests are over at once", storage.MaxNotices, 40, func(int) {
			if a := speaker.Post(t, "/bc-authorize", backchannelForm(speaker, nil)); a.Status != http.StatusOK {
				t.Errorf("%d %s", a.Status, a.Body)
			}
			s.SQL(t, `UPDATE authorizations SET expires_at = now()`)
		}},
	} {
		s.SQL(t, `DELETE FROM rung`)
		for i := range way.times {
			way.ring(i)
		}
		n := s.Count(t, `SELECT count(*) FROM rung`)
		t.Logf("%s: %d of %d", way.name, n, way.times)
		if n != way.most {
			t.Errorf("%s: %d of %d ring, want %d", way.name, n, way.times, way.most)
		}
		total += n
	}
	if total > 19 {
		t.Errorf("%d in all", total)
	}
	// What did not ring waits all the same, and in time it rings again.
	s.SQL(t, `DELETE FROM authorizations`)
	speaker.Post(t, "/bc-authorize", backchannelForm(speaker, nil))
	if n, open := s.Count(t, `SELECT count(*) FROM rung`), s.Count(t, `SELECT count(*) FROM authorizations WHERE for_customer_id = $1 AND status = 'pending'`, [16]byte(alice.ID)); n != storage.MaxNotices || open != 1 {
		t.Errorf("%d ring, %d wait", n, open)
	}
	s.SQL(t, `UPDATE limits SET at = at - interval '1 hour', blocked_until = blocked_until - interval '1 hour'`)
	speaker.Post(t, "/bc-authorize", backchannelForm(speaker, nil))
	if n := s.Count(t, `SELECT count(*) FROM rung`); n != storage.MaxNotices+1 {
		t.Errorf("an hour later %d ring", n)
	}
	if n := s.Count(t, `SELECT count(*) FROM limits WHERE blocked_until > now() + interval '1 hour'`); n != 0 {
		t.Errorf("%d blocks are longer than they should be", n)
	}
}
