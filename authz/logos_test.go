package authz_test

import (
	"bytes"
	"html"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/authz"
	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/fapi"
)

// picture is one of a single colour.
func picture(width, height int, c color.Color) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			img.Set(x, y, c)
		}
	}
	return img
}

func encode(t testing.TB, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func asPNG(t testing.TB, img image.Image) []byte {
	return encode(t, func(b *bytes.Buffer) error { return png.Encode(b, img) })
}

func asJPEG(t testing.TB, img image.Image) []byte {
	return encode(t, func(b *bytes.Buffer) error { return jpeg.Encode(b, img, nil) })
}

func asGIF(t testing.TB, img image.Image) []byte {
	return encode(t, func(b *bytes.Buffer) error { return gif.Encode(b, img, nil) })
}

var red, blue = color.RGBA{R: 200, A: 255}, color.RGBA{B: 200, A: 255}

// logoOn returns the address of the client's logo on a page, "" for none.
func logoOn(t *testing.T, p *authztest.Page) string {
	t.Helper()
	found := regexp.MustCompile(`<img class="client-logo" src="([^"]*)" alt=""`).FindSubmatch(p.Body)
	if found == nil {
		return ""
	}
	return html.UnescapeString(string(found[1]))
}

// loginPage is where the client sends a new browser.
func loginPage(t *testing.T, s *authztest.Server, c *authztest.Client) *authztest.Page {
	t.Helper()
	return s.Browser(t).Authorize(t, c.ID, c.Push(t, nil)).Is(t, "login_page")
}

// statements counts those that requests have caused since the trace was reset.
func statements(s *authztest.Server) int {
	return len(slices.DeleteFunc(s.Trace.SQL(), inBackground))
}

func logoOf(clientID string) string {
	return "/clients/logo?" + url.Values{"client_id": {clientID}}.Encode()
}

// shownLogo fetches what is at an address of the server and checks that it is one of our pictures.
func shownLogo(t *testing.T, s *authztest.Server, path string) (*authztest.Answer, image.Image) {
	t.Helper()
	answer := call(t, s, http.MethodGet, path, "", nil)
	if answer.Status != http.StatusOK {
		t.Fatalf("%s: %d %s", path, answer.Status, answer.Body)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
		"Content-Security-Policy": "default-src 'none'; sandbox",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	authz.CheckLogo(t, answer.Body)
	img, err := png.Decode(bytes.NewReader(answer.Body))
	if err != nil {
		t.Fatal(err)
	}
	return answer, img
}

// OP:registration-logo-uri (OpenID Connect Registration §2): the login and consent pages show the logo, at once.
func TestLogo_ShownOnThePages(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	var fetched atomic.Int64
	site := s.Site(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		w.Write(asPNG(t, picture(512, 256, red)))
	}))
	plain, _ := mustRegister(t, s, nil)
	c, told := mustRegister(t, s, members{"logo_uri": site + "/logo.png", "post_logout_redirect_uris": []string{loggedOutURI}})
	if told["logo_uri"] != site+"/logo.png" {
		t.Errorf("told logo_uri %v", told["logo_uri"])
	}

	b := s.Browser(t)
	uri := c.Push(t, nil)
	s.Trace.Reset()
	page := b.Authorize(t, c.ID, uri).Is(t, "login_page")
	asked := statements(s)
	path := logoOn(t, page)
	if path == "" || !strings.HasPrefix(path, "/") {
		t.Fatalf("the login page has no logo of ours:\n%s", page.Body)
	}
	answer, img := shownLogo(t, s, path)
	if got := img.Bounds().Size(); got != image.Pt(128, 64) {
		t.Errorf("its size is %v", got)
	}
	if cache := answer.Header.Get("Cache-Control"); cache != "public, max-age=31536000, immutable" {
		t.Errorf("Cache-Control %q", cache)
	}
	consent := b.Login(t, page).Is(t, "consent_page")
	if logoOn(t, consent) != path {
		t.Error("the consent page has another logo, or none")
	}
	if out := b.Open(t, endSession("client_id", c.ID, "post_logout_redirect_uri", loggedOutURI)).Is(t, "sign_out_page"); logoOn(t, out) != path {
		t.Error("the page that asks whether to sign out has another logo, or none")
	}

	without := s.Browser(t)
	uri = plain.Push(t, nil)
	s.Trace.Reset()
	bare := without.Authorize(t, plain.ID, uri).Is(t, "login_page")
	if logoOn(t, bare) != "" || asked == 0 || statements(s) != asked {
		t.Errorf("a logo costs the page statements: %d with, %d without", asked, statements(s))
	}
	policy := page.Header.Get("Content-Security-Policy")
	if policy != bare.Header.Get("Content-Security-Policy") || !strings.Contains(policy, "img-src 'self' data:;") || strings.Contains(string(page.Body), site) {
		t.Errorf("the page admits what is not ours: %s", policy)
	}
	if fetched.Load() != 1 {
		t.Errorf("fetched %d times", fetched.Load())
	}

	for name, other := range map[string]string{
		"another client's id":        strings.Replace(path, c.ID, plain.ID, 1),
		"a client that nobody knows": logoOf("nobody"),
		"an operator's client":       logoOf("web"),
	} {
		if answer := call(t, s, http.MethodGet, other, "", nil); answer.Status != http.StatusNotFound || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %q", name, answer.Status, answer.Header.Get("Cache-Control"))
		}
	}
	if answer := call(t, s, http.MethodGet, "/clients/logo", "", nil); answer.Status != http.StatusBadRequest {
		t.Errorf("nobody's: %d", answer.Status)
	}
	for name, unversioned := range map[string]string{"no version": logoOf(c.ID), "another version": logoOf(c.ID) + "&v=0123456789abcdef"} {
		if answer, _ := shownLogo(t, s, unversioned); answer.Header.Get("Cache-Control") != "no-store" || answer.Header.Get("ETag") != "" {
			t.Errorf("%s may be kept", name)
		}
	}
}

// A registration does not fail with its logo. What is no picture, or a dangerous one, is not shown.
func TestLogo_WhatIsShown(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t)
	strict := authztest.Start(t, authztest.Options{PublicOnly: true, Like: s})
	site := func(body []byte) *http.ServeMux {
		mux := http.NewServeMux()
		mux.HandleFunc("/logo", func(w http.ResponseWriter, _ *http.Request) { w.Write(body) })
		mux.Handle("/away", http.RedirectHandler("/logo", http.StatusFound))
		mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(body)
		})
		return mux
	}
	good := asPNG(t, picture(64, 64, red))
	for name, test := range map[string]struct {
		at    *authztest.Server
		body  []byte
		path  string
		shown bool
	}{
		"a PNG":                             {body: good, shown: true},
		"a JPEG":                            {body: asJPEG(t, picture(300, 200, red)), shown: true},
		"a GIF":                             {body: asGIF(t, picture(300, 200, red)), shown: true},
		"a PNG of one pixel":                {body: asPNG(t, picture(1, 1, red)), shown: true},
		"a PNG as wide as may be":           {body: asPNG(t, picture(4096, 1, red)), shown: true},
		"a PNG that is too wide":            {body: asPNG(t, picture(4097, 1, red))},
		"a PNG of too many pixels":          {body: authz.BombPNG(4096, 4096)},
		"decompression bomb":                {body: authz.BombPNG(60000, 60000)},
		"a JPEG of too many scans":          {body: authz.ScansJPEG(65)},
		"a JPEG of as many scans as may be": {body: authz.ScansJPEG(64), shown: true},
		"a PNG that breaks off":             {body: good[:len(good)/2]},
		"a body of 1 MiB and a byte":        {body: append(bytes.Clone(good), make([]byte, 1<<20+1-len(good))...)},
		"SVG":                               {body: []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>attack()</script></svg>`)},
		"HTML":                              {body: []byte("<!doctype html><script>attack()</script>")},
		"text":                              {body: []byte("logo")},
		"nothing":                           {body: []byte{}},
		"compressed on the way":             {body: good, path: "/bomb"},
		"404":                               {body: good, path: "/none"},
		"a redirect":                        {body: good, path: "/away"},
		"slow":                              {body: good, path: "/slow"},
		"an address that is not public":     {body: good, at: strict},
	} {
		t.Run(name, func(t *testing.T) {
			if test.at == nil {
				test.at = s
			}
			if test.path == "" {
				test.path = "/logo"
			}
			c, told := mustRegister(t, test.at, members{"logo_uri": s.Site(t, site(test.body)) + test.path})
			if told["logo_uri"] == nil {
				t.Error("the registration has lost its logo_uri")
			}
			if path := logoOn(t, loginPage(t, s, c)); (path != "") != test.shown {
				t.Errorf("the page shows %q", path)
			} else if test.shown {
				shownLogo(t, s, path)
			}
			if !test.shown {
				if answer := call(t, s, http.MethodGet, logoOf(c.ID), "", nil); answer.Status != http.StatusNotFound {
					t.Errorf("served: %d", answer.Status)
				}
			}
		})
	}
	t.Run("http", func(t *testing.T) {
		if c, _ := mustRegister(t, s, members{"logo_uri": "http://app.example/logo.png"}); logoOn(t, loginPage(t, s, c)) != "" {
			t.Error("shown")
		}
	})
}

// A logo follows its logo_uri, and goes with its client, on all servers.
func TestLogo_FollowsTheClient(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	var fetched atomic.Int64
	site := one.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		switch r.URL.Path {
		case "/red":
			w.Write(asPNG(t, picture(9, 9, red)))
		case "/blue":
			w.Write(asPNG(t, picture(9, 9, blue)))
		default:
			http.NotFound(w, r)
		}
	}))
	c, told := mustRegister(t, one, members{"logo_uri": site + "/red"})
	token := told["registration_access_token"].(string)
	update := func(logo any) string {
		t.Helper()
		told = manage(t, one, http.MethodPut, told, token, newcomer(members{"client_id": c.ID, "client_secret": c.Secret, "logo_uri": logo})).JSON
		token = told["registration_access_token"].(string)
		path := logoOn(t, loginPage(t, one, c))
		soon(t, "the other server shows the same", func() bool { return logoOn(t, loginPage(t, two, c)) == path })
		return path
	}
	first := logoOn(t, loginPage(t, one, c))
	if same := update(site + "/red"); same != first || fetched.Load() != 1 {
		t.Errorf("an update without another logo_uri: %q, fetched %d times", same, fetched.Load())
	}
	second := update(site + "/blue")
	if _, img := shownLogo(t, two, second); second == first || img.At(4, 4) != blue {
		t.Errorf("after another logo_uri: %q, %v", second, img.At(4, 4))
	}
	if gone := update(site + "/none"); gone != "" {
		t.Errorf("shown though the new one cannot be fetched: %q", gone)
	}
	update(site + "/red")
	if gone := update(nil); gone != "" {
		t.Errorf("shown though the client names none: %q", gone)
	}
	missing := func(when string) {
		t.Helper()
		for _, s := range []*authztest.Server{one, two} {
			if answer := call(t, s, http.MethodGet, first, "", nil); answer.Status != http.StatusNotFound {
				t.Errorf("%s: %d", when, answer.Status)
			}
		}
	}
	missing("the client names none")
	if _, err := one.DB.Purge(t.Context()); err != nil || one.Count(t, `SELECT count(*) FROM client_logos WHERE client_id = $1`, c.ID) != 0 {
		t.Errorf("a logo that nobody names is kept: %v", err)
	}
	update(site + "/red")
	shownLogo(t, two, first)
	one.DisableClient(t, c.ID)
	missing("disabled")
	one.SQL(t, `UPDATE clients SET disabled_at = NULL WHERE client_id = $1`, c.ID)
	if answer := manage(t, one, http.MethodDelete, told, token, nil); answer.Status != http.StatusNoContent {
		t.Fatalf("%d %s", answer.Status, answer.Body)
	}
	missing("deleted")
	if one.Count(t, `SELECT count(*) FROM client_logos`) != 0 {
		t.Error("the logo of a client that is no more is kept")
	}
}

// An operator's client is not there when its logo is fetched: a step in the background does it, on one of the servers.
func TestLogo_OfAnOperatorsClient(t *testing.T) {
	t.Parallel()
	one, two := twins(t, authztest.Options{})
	var fetched, ready atomic.Int64
	site := one.Site(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		if r.URL.Path == "/later" && ready.Load() == 0 {
			http.NotFound(w, r)
			return
		}
		w.Write(asPNG(t, picture(9, 9, red)))
	}))
	c := one.AddClient(t, "shop&co/1?", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"logo_uri": site + "/logo"})
	for _, s := range []*authztest.Server{one, two} {
		soon(t, "the logo is there", func() bool { return logoOn(t, loginPage(t, s, c)) != "" })
		shownLogo(t, s, logoOn(t, loginPage(t, s, c)))
	}
	if fetched.Load() != 1 {
		t.Errorf("fetched %d times", fetched.Load())
	}

	t.Run("what failed is tried again, hours later", func(t *testing.T) {
		late := one.AddClient(t, "late", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"logo_uri": site + "/later"})
		soon(t, "it was tried", func() bool { return one.Count(t, `SELECT count(*) FROM client_logos WHERE client_id = 'late'`) == 1 })
		ready.Store(1)
		one.SQL(t, `UPDATE client_logos SET tried_at = tried_at - interval '5 hours 59 minutes' WHERE client_id = 'late'`)
		next := one.AddClient(t, "next", fapi.OpenID, fapi.ClientSecretBasic, map[string]any{"logo_uri": site + "/logo"})
		soon(t, "another is not held up", func() bool { return logoOn(t, loginPage(t, one, next)) != "" })
		if logoOn(t, loginPage(t, one, late)) != "" || fetched.Load() != 3 {
			t.Errorf("tried again at once: fetched %d times", fetched.Load())
		}
		one.SQL(t, `UPDATE client_logos SET tried_at = tried_at - interval '2 minutes' WHERE client_id = 'late'`)
		one.AddClient(t, "nudge", fapi.OpenID, fapi.ClientSecretBasic, nil)
		soon(t, "the logo is there", func() bool { return logoOn(t, loginPage(t, one, late)) != "" })
	})
}
