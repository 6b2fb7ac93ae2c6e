package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	cdpbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/serviceworker"
	"github.com/chromedp/chromedp"

	"github.com/countersign/countersign/web/webtest"
)

// approvalsServer serves the list, with as many requests as are waiting, and tells what its script sends.
func approvalsServer(t *testing.T, waiting *atomic.Int32) (*httptest.Server, chan string) {
	t.Helper()
	p := newPages(t, meadow())
	sent := make(chan string, 10)
	mux := http.NewServeMux()
	mux.Handle("/static/", p.Static())
	mux.HandleFunc("GET /approvals/worker.js", p.ApprovalsWorker)
	mux.HandleFunc("GET /approvals", func(w http.ResponseWriter, _ *http.Request) { _ = p.Approvals(w, 200, approvals(int(waiting.Load()))) })
	mux.Handle("/approvals/subscriptions", p.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent <- r.Method + " " + r.Header.Get("Content-Type") + " " + string(body)
		w.WriteHeader(http.StatusNoContent)
	})))
	server := httptest.NewServer(mux) // on a loopback address, which browsers trust as they do https
	t.Cleanup(server.Close)
	return server, sent
}

// eventually waits until an expression is true in the page.
func eventually(ctx context.Context, t *testing.T, what, expression string) {
	t.Helper()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(`(async () => {
		for (let i = 0; i < 200; i++) {
			if (await (%s)) return true;
			await new Promise(again => setTimeout(again, 100));
		}
		throw new Error("never");
	})()`, expression), chromedp.EvalAwaitPromise))
	if err != nil {
		html, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText`))
		t.Fatalf("%s: %v\n%s", what, err, html)
	}
}

// A browser takes the list for an app that it can install, keeps it fresh, and rings.
func TestApprovals_InstallsAndRings(t *testing.T) {
	var waiting atomic.Int32
	server, sent := approvalsServer(t, &waiting)
	ctx := browserFor(t, server.URL)
	var registration atomic.Value
	err := chromedp.Listen(ctx, func(event any) {
		if e, ok := event.(*serviceworker.EventWorkerRegistrationUpdated); ok {
			for _, r := range e.Registrations {
				registration.Store(r.RegistrationID)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, serviceworker.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(ctx, webtest.Viewport(360), chromedp.Navigate(server.URL+"/approvals")); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the worker is active", `navigator.serviceWorker.ready.then(r => r.active !== null && new URL(r.scope).pathname === "/approvals")`)

	manifest, err := chromedp.Call(ctx, page.GetAppManifest, page.GetAppManifestParams{})
	if err != nil || len(manifest.Errors) > 0 || manifest.Data == "" {
		t.Errorf("manifest: %v %+v", err, manifest)
	}
	installable, err := chromedp.Call(ctx, page.GetInstallabilityErrors, cdp.Empty{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range installable.InstallabilityErrors {
		if e.ErrorID != "in-incognito" {
			t.Errorf("not installable: %s", e.ErrorID)
		}
	}

	waiting.Store(2)
	eventually(ctx, t, "the list becomes fresh by itself", `document.querySelectorAll("#inbox article").length === 2 && document.getElementById("waiting_count").innerText.startsWith("2 ")`)

	// This browser is headless and has no push service: what that one would return stands in for it.
	_, err = chromedp.Run(ctx, chromedp.Evaluate[bool](`(() => {
		const made = { endpoint: "https://push.example/1", unsubscribe: async () => true, toJSON: () => ({ endpoint: "https://push.example/1", keys: {} }) };
		let there = null;
		PushManager.prototype.subscribe = async options => { there = options.userVisibleOnly && options.applicationServerKey.startsWith("BI") ? made : null; return there; };
		PushManager.prototype.getSubscription = async () => there;
		return true;
	})()`))
	if err != nil {
		t.Fatal(err)
	}
	shown := func(state string) string {
		return `document.querySelector('#ring p[data-state=` + state + `]').checkVisibility()`
	}
	eventually(ctx, t, "ringing is offered", shown("off"))
	eventually(ctx, t, "and nothing else", `!document.getElementById("silence_button").checkVisibility()`)
	if folder := os.Getenv("COUNTERSIGN_SCREENSHOTS"); folder != "" {
		photograph(ctx, t, filepath.Join(folder, "approvals-ring-360-light.png"))
	}
	if err := chromedp.Do(ctx, click("#ring_button")); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "it rings here", shown("on"))
	if got := received(t, sent); got != `POST application/json {"endpoint":"https://push.example/1","keys":{}}` {
		t.Errorf("sent %s", got)
	}
	waiting.Store(1)
	for _, push := range []struct{ data, title string }{
		{`{"title":"Something waits for your approval","body":"Open the list."}`, "Something waits for your approval"},
		{`not JSON`, "Something waits for your approval"},
		{`{"title":7}`, "Something waits for your approval"},
		{`{"title":"Another text"}`, "Another text"},
	} {
		id, _ := registration.Load().(serviceworker.RegistrationID)
		_, err := chromedp.Call(ctx, serviceworker.DeliverPushMessage, serviceworker.DeliverPushMessageParams{Origin: server.URL, RegistrationID: id, Data: push.data})
		if err != nil {
			t.Fatal(err)
		}
		title, _ := json.Marshal(push.title)
		eventually(ctx, t, push.data, `navigator.serviceWorker.ready.then(r => r.getNotifications()).then(all => {
			const rings = all.length === 1 && all[0].title === `+string(title)+`;
			if (rings) all[0].close();
			return rings;
		})`)
	}
	eventually(ctx, t, "a ring makes the list look again", `document.querySelectorAll("#inbox article").length === 1`)
	if err := chromedp.Do(ctx, click("#silence_button")); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "it rings no more", shown("off"))
	if got := received(t, sent); got != `DELETE application/json {"endpoint":"https://push.example/1"}` {
		t.Errorf("sent %s", got)
	}
}

func received(t *testing.T, sent chan string) string {
	t.Helper()
	select {
	case got := <-sent:
		return got
	case <-time.After(20 * time.Second):
		t.Fatal("the script has sent nothing")
		return ""
	}
}

// browserFor is a browser whose owner lets an origin show notifications.
func browserFor(t *testing.T, origin string) context.Context {
	t.Helper()
	ctx := webtest.Chromium(t)
	_, err := chromedp.CallBrowser(ctx, cdpbrowser.SetPermission, cdpbrowser.SetPermissionParams{
		Permission: &cdpbrowser.PermissionDescriptor{Name: "notifications"}, Setting: cdpbrowser.PermissionSettingGranted, Origin: origin,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ctx
}

// Without a network, and with a server that fails, the list stays as it was; without a login it asks for one.
func TestApprovals_StaysWhenNothingAnswers(t *testing.T) {
	p := newPages(t, meadow())
	var answer atomic.Value
	answer.Store("list")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/approvals":
			p.Static().ServeHTTP(w, r)
		case answer.Load() == "list":
			_ = p.Approvals(w, 200, approvals(2))
		case answer.Load() == "error":
			_ = p.Error(w, 500, Error{Code: "server_error"})
		default:
			_ = p.Login(w, 200, Login{Action: "/login"})
		}
	}))
	defer server.Close()
	ctx := webtest.Chromium(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(server.URL+"/approvals")); err != nil {
		t.Fatal(err)
	}
	answer.Store("error")
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[any](`lookAgain()`, chromedp.EvalAwaitPromise)); err != nil && err != chromedp.ErrJSUndefined {
		t.Fatal(err)
	}
	eventually(ctx, t, "the list stays", `document.querySelectorAll("#inbox article").length === 2`)
	answer.Store("login")
	if err := chromedp.Do(ctx, chromedp.WaitReady(chromedp.CSS("#login_page"))); err != nil {
		t.Fatal(err)
	}
}

// The icon is drawn up to its edges, in the brand's colour, with a tick that can be seen.
func TestTick(t *testing.T) {
	for _, colour := range []string{"#14532d", "#ffffff", "#ffcc00"} {
		b := Brand{Colour: colour}
		for _, size := range []int{192, 512} {
			img := decoded(t, tick(b, size))
			if got := img.Bounds().Dx(); got != size {
				t.Errorf("%d pixels wide, not %d", got, size)
			}
			fill, line := mustColour(colour), readable(mustColour(colour))
			for _, corner := range [][2]int{{0, 0}, {size - 1, size - 1}} {
				if got := at(img, corner[0], corner[1]); contrast(got, fill) > 1.01 {
					t.Errorf("%s: a corner is %s", colour, got)
				}
			}
			if got := at(img, size*44/100, size*66/100); contrast(got, line) > 1.01 {
				t.Errorf("%s: the tick is %s, not %s", colour, got, line)
			}
		}
	}
}

func decoded(t *testing.T, encoded []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func at(img image.Image, x, y int) rgb {
	r, g, b, _ := img.At(x, y).RGBA()
	return rgb{float64(r) / 0xffff, float64(g) / 0xffff, float64(b) / 0xffff}
}
