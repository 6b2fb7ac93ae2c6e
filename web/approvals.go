package web

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/http"
	"strconv"
	"time"
)

// Waits is for how long a request can still be decided, and for how long it could at first.
type Waits struct{ Left, Total time.Duration }

// Waiting is a request on the customer's list.
type Waiting struct {
	Client         Client
	Items          []Item // what is asked for
	Details        []Detail
	BindingMessage string
	Waits          Waits
	DecideURL      string // where it is decided
}

// Blocked is a client that cannot ask the customer for a while.
type Blocked struct {
	ID     string
	Client string // its name
	Until  time.Time
}

// Approvals is the list of what waits for the customer's approval. Inputs, in a form each: client_id (AllowAction),
// user_code and do, which is "save" or "remove" (UserCodeAction); SilenceAction has none.
type Approvals struct {
	Customer string
	Waiting  []Waiting
	Blocked  []Blocked
	Notice   string
	Problem  string // with the user code

	HasUserCode bool

	// PushKey is the server's key for Web Push (RFC 8292), "" when no device can be rung. Ringing are the browsers that
	// are: SHA-256 of their endpoints, in hex.
	PushKey string
	Ringing []string

	SignOutAction, AllowAction, UserCodeAction, SilenceAction string

	ConsentsURL      string
	TransactionsURL  string
	Transactions     int    // that wait
	SubscriptionsURL string // where the script sends subscriptions
	WorkerURL        string // of the service worker
}

// Approvals shows the page, with 200 or, with a Problem, 422.
func (p *Pages) Approvals(w http.ResponseWriter, status int, v Approvals) error {
	app := struct {
		Approvals
		ScriptURL, ManifestURL, TouchIconURL string
	}{v, p.app.script.url(), p.app.manifest.url(), p.app.icon.url()}
	return p.render(w, status, "approvals", csp(nil)+"; script-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'", v.Problem, app)
}

// ApprovalsWorker answers GET for the service worker that rings. It is not among the static files: a worker acts for pages
// at and below its own address, and browsers look for a newer one there.
func (p *Pages) ApprovalsWorker(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("Service-Worker-Allowed", approvalsScope)
	h.Set("Content-Security-Policy", "default-src 'none'; img-src 'self'")
	h.Set("Content-Length", strconv.Itoa(len(p.app.worker)))
	_, _ = w.Write(p.app.worker) // whoever has left asks again
}

const approvalsScope = "/approvals"

var (
	//go:embed static/approvals.js
	approvalsScript []byte
	//go:embed static/worker.js
	workerScript []byte
)

// app is what makes a phone take the approvals page for an app.
type app struct {
	script, manifest, icon, largeIcon *file
	worker                            []byte
}

func (a *app) files() []*file { return []*file{a.script, a.manifest, a.icon, a.largeIcon} }

func (p *Pages) makeApp() error {
	a := &p.app
	a.script = newFile("approvals.js", "text/javascript; charset=utf-8", approvalsScript)
	a.icon = newFile("approve192.png", "image/png", tick(p.brand, 192))
	a.largeIcon = newFile("approve512.png", "image/png", tick(p.brand, 512))

	type picture struct {
		Source  string `json:"src"`
		Sizes   string `json:"sizes"`
		Type    string `json:"type"`
		Purpose string `json:"purpose"`
	}
	manifest, err := json.Marshal(map[string]any{
		"id": approvalsScope, "start_url": approvalsScope, "scope": approvalsScope, "display": "standalone",
		"name": p.Text("approvals.app"), "short_name": p.frame.Short, "lang": p.frame.Lang, "dir": p.frame.Dir,
		"background_color": lightest.String(), "theme_color": p.brand.Colour,
		"icons": []picture{
			{a.icon.url(), "192x192", "image/png", "any"}, {a.icon.url(), "192x192", "image/png", "maskable"},
			{a.largeIcon.url(), "512x512", "image/png", "any"}, {a.largeIcon.url(), "512x512", "image/png", "maskable"},
		},
	})
	if err != nil {
		return err
	}
	a.manifest = newFile("approvals.webmanifest", "application/manifest+json", manifest)

	texts, err := json.Marshal(map[string]string{
		"title": p.Text("approvals.ring.title"), "body": p.Text("approvals.ring.body"), "icon": a.icon.url(), "page": approvalsScope,
	})
	if err != nil {
		return err
	}
	a.worker = bytes.Join([][]byte{[]byte("const texts = "), texts, []byte(";\n"), workerScript}, nil)
	return nil
}

// tick draws the app's icon: a tick on the brand's colour, up to the edges and within the inner four fifths, so that phones
// may cut it to any shape.
func tick(b Brand, size int) []byte {
	fill, line := mustColour(b.Colour), readable(mustColour(b.Colour))
	img := image.NewNRGBA(image.Rect(0, 0, size, size))
	for y := range size {
		for x := range size {
			px, py := (float64(x)+0.5)/float64(size), (float64(y)+0.5)/float64(size)
			far := min(toSegment(px, py, 0.30, 0.53, 0.44, 0.66), toSegment(px, py, 0.44, 0.66, 0.71, 0.36))
			cover := min(max((0.05-far)*float64(size)+0.5, 0), 1) // of the line, soft at its edge
			img.SetNRGBA(x, y, color.NRGBA{R: mix(fill[0], line[0], cover), G: mix(fill[1], line[1], cover), B: mix(fill[2], line[2], cover), A: 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		panic(err) // a picture of ours, into memory
	}
	return out.Bytes()
}

func mix(from, to, share float64) uint8 { return uint8(math.Round(255 * (from + (to-from)*share))) }

// toSegment is how far a point is from the line between two others.
func toSegment(x, y, ax, ay, bx, by float64) float64 {
	dx, dy := bx-ax, by-ay
	along := min(max(((x-ax)*dx+(y-ay)*dy)/(dx*dx+dy*dy), 0), 1)
	return math.Hypot(x-ax-along*dx, y-ay-along*dy)
}
