package authn

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/storage"
)

// E9, G3: whatever the kind, guessers at two servers have one budget of attempts together. The fifth attempt begins the block, in which
// the right answer reads like a wrong one.
func TestSecondFactor_GuessingAtTwoServers(t *testing.T) {
	t.Parallel()
	for kind, prepare := range map[string]func(t *testing.T, s *server, b *browser) (right, wrong []string){
		storage.TOTP: func(t *testing.T, s *server, _ *browser) ([]string, []string) {
			key := make(totp, totpSecret)
			if err := s.db.SetFactor(t.Context(), storage.NewID(), s.id(t), storage.TOTP, key); err != nil {
				t.Fatal(err)
			}
			return []string{"code", s.code(key)}, []string{"code", s.wrong(key)}
		},
		storage.EmailFactor: func(t *testing.T, s *server, b *browser) ([]string, []string) {
			s.setFactor(s.id(t), storage.EmailFactor, sentSecret{aliceEmail})
			b.login(alice, alicePassword)
			b.sendTo(storage.EmailFactor)
			code := s.sent()
			return []string{"code", code}, []string{"code", not(code)}
		},
		storage.RecoveryCodes: func(t *testing.T, s *server, _ *browser) ([]string, []string) {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.http.URL, nil)
			c, err := s.db.FindCustomer(t.Context(), "default", alice)
			if err != nil {
				t.Fatal(err)
			}
			codes, err := s.makeRecoveryCodes(r, &storage.Visitor{Login: storage.Login{CustomerID: c.ID}, Customer: c.Customer})
			if err != nil {
				t.Fatal(err)
			}
			return []string{"code", codes[0]}, []string{"code", "22222-22222"}
		},
		"grid_card": func(t *testing.T, s *server, _ *browser) ([]string, []string) {
			s.setFactor(s.id(t), "grid_card", map[string]string{"A1": "17", "B2": "42"})
			return []string{"A1", "17", "B2", "42"}, []string{"A1", "17", "B2", "43"}
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := Config{Channels: bothChannels, Factors: []Factor{gridCard{}}}
			one := setup(t, c)
			two := serve(t, one.dsn, c)
			one.createAlice()
			first := one.browser()
			right, wrong := prepare(t, one, first)
			browsers := []*browser{first}
			for i := range 9 {
				browsers = append(browsers, []*server{two, one}[i%2].browser())
			}
			for _, b := range browsers {
				if b.cookie() == "" {
					b.login(alice, alicePassword).want(t, "second_factor_page")
				}
			}
			var verdicts, blocked atomic.Int32
			var wg sync.WaitGroup
			for i := range 40 {
				b := browsers[i%len(browsers)]
				wg.Go(func() {
					switch p := b.post(secondFactorForm, append([]string{"kind", kind}, wrong...)...); p.status {
					case http.StatusForbidden:
						verdicts.Add(1)
					case http.StatusTooManyRequests:
						blocked.Add(1)
					default:
						t.Errorf("%d %s", p.status, p.id)
					}
				})
			}
			wg.Wait()
			if n := one.rows(t, `SELECT attempts::int FROM limits WHERE blocked_until > now()`); n != 5 || verdicts.Load() != 4 || blocked.Load() != 36 {
				t.Errorf("%d counted, %d read that they are wrong, %d that they are too many", n, verdicts.Load(), blocked.Load())
			}
			for _, b := range browsers[:2] {
				p := b.post(secondFactorForm, append([]string{"kind", kind}, right...)...)
				q := b.post(secondFactorForm, append([]string{"kind", kind}, wrong...)...)
				if p.id != "second_factor_page" || p.status != http.StatusTooManyRequests || p.body != q.body {
					t.Errorf("right: %d %s, wrong: %d %s", p.status, p.id, q.status, q.id)
				}
			}
		})
	}
}
