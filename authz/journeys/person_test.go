package journeys_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/countersign/countersign/authz/authztest"
	"github.com/countersign/countersign/web/webtest"
)

// manner is how somebody uses a browser.
type manner struct {
	name       string
	width      int64
	scheme     string // of colours
	scriptless bool
	keyboard   bool // alone: no mouse
}

var manners = []manner{
	{name: "phone", width: 390, scheme: "light"},
	{name: "desk", width: 1280, scheme: "dark"},
	{name: "phone-without-scripts", width: 390, scheme: "light", scriptless: true},
	{name: "keyboard", width: 1280, scheme: "light", keyboard: true},
}

// person is somebody with a browser of their own, on the way through a journey. At each page it is looked whether everything fits, can be
// reached by keyboard, and keeps nobody out.
type person struct {
	*testing.T
	manner
	*bank
	ctx      context.Context
	username string
	journey  string
	pages    int
	axe      *webtest.Axe // nil: nobody looks
	seen     *seen
}

// seen are the pages that were looked at in this manner, and what was found there.
type seen struct {
	mu       sync.Mutex
	pages    map[string]bool
	barriers map[string]webtest.Barrier
}

// first tells whether a page was not met before: one with the same elements was.
func (s *seen) first(page string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.pages[page]
	s.pages[page] = true
	return !known
}

// newPerson opens a tab with cookies of its own.
func newPerson(t *testing.T, browser context.Context, b *bank, m manner, s *seen, axe *webtest.Axe, journey string) *person {
	t.Helper()
	p := &person{T: t, manner: m, bank: b, ctx: webtest.Tab(t, browser), axe: axe, seen: s, journey: journey, username: journey + "-" + m.name}
	p.do(webtest.Viewport(m.width), webtest.ColourScheme(m.scheme))
	_, err := chromedp.Call(p.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: m.scriptless})
	check(t, err)
	return p
}

func (p *person) do(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	check(p.T, chromedp.Do(p.ctx, steps...))
}

// ask evaluates an expression in the page. What a test asks is not what a page runs: it works without JavaScript too.
func ask[T any](p *person, expression string, values ...any) T {
	p.Helper()
	answer, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](written(expression, values)))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return answer
}

func written(expression string, values []any) string {
	for i, v := range values {
		text, _ := json.Marshal(v)
		values[i] = text
	}
	if len(values) == 0 {
		return expression
	}
	return fmt.Sprintf(expression, values...)
}

// open goes to a page by its address.
func (p *person) open(path, id string) {
	p.Helper()
	if strings.HasPrefix(path, "/") {
		path = p.Issuer + path
	}
	p.do(chromedp.Navigate(path))
	p.at(id)
}

// forget is a browser that nobody has used.
func (p *person) forget() {
	p.Helper()
	_, err := chromedp.Call(p.ctx, network.ClearBrowserCookies, cdp.Empty{})
	check(p.T, err)
}

// at waits for a page, and looks at it.
func (p *person) at(id string) {
	p.Helper()
	where := ""
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var err error
		where, err = chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.readyState === "complete" && !document.documentElement.dataset.left
			? document.querySelector("main")?.id ?? location.href : ""`))
		if err == nil && where == id {
			break
		}
		if err == nil && where != "" || time.Now().After(end) {
			webtest.Photograph(p.ctx, p.T, "failed-"+p.name)
			p.Fatalf("at %q, not at %q: %v\n%s", where, id, err, ask[string](p, `location.href + "\n" + document.body?.innerText`))
		}
	}
	p.look(id)
}

// await waits until something is so in the page.
func (p *person) await(expression string) {
	p.Helper()
	for range 500 {
		if ask[bool](p, expression) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.Fatalf("it never came to %s", expression)
}

// fingerprint says what a page is made of: ids, without the numbers of rows and factors.
const fingerprint = `[...document.querySelectorAll("main, main [id], main [href], main button, main input")].map(e => e.id || e.type).join(" ").replace(/_\d+/g, "_n")`

// problemSeen is whether what the page says is wrong, if anything, can be read without scrolling to it.
const problemSeen = `(() => {
	const box = document.querySelector("main #problem")?.getBoundingClientRect();
	return !box || box.top >= 0 && box.bottom <= innerHeight;
})()`

// look checks a page as this person meets it.
func (p *person) look(id string) {
	p.Helper()
	if id == "client_page" { // not ours
		return
	}
	if p.pages++; !p.seen.first(ask[string](p, fingerprint)) {
		return
	}
	if !p.scriptless {
		p.await(`document.querySelector("#ring")?.hidden !== true`) // what a script shows comes a little later
	}
	webtest.Photograph(p.ctx, p.T, fmt.Sprintf("%s-%s-%02d-%s", p.name, p.journey, p.pages, id))
	if title := ask[string](p, `document.title`); !strings.HasSuffix(title, " · Meadow Bank") {
		p.Errorf("%s: title %q", id, title)
	}
	if heads := ask[int](p, `document.querySelectorAll("h1").length`); heads != 1 {
		p.Errorf("%s: %d headings of the first level", id, heads)
	}
	if !ask[bool](p, problemSeen) {
		p.Errorf("%s: what is wrong is said outside of the window", id)
	}
	if p.width < 600 {
		p.do(webtest.Viewport(320)) // WCAG 2.2, 1.4.10
		if out := ask[string](p, webtest.TooWide); out != "" {
			p.Errorf("%s at 320 pixels: too wide: %s", id, out)
		}
		p.do(webtest.Viewport(p.width))
	}
	if out := ask[string](p, webtest.TooWide); out != "" {
		p.Errorf("%s: too wide: %s", id, out)
	}
	if p.keyboard {
		p.tabThrough(id)
	}
	if p.axe != nil && !p.scriptless && !p.keyboard {
		found, err := p.axe.Look(p.ctx)
		check(p.T, err)
		p.seen.mu.Lock()
		for _, b := range found {
			p.seen.barriers[p.name+" "+id+" "+b.Rule] = b
		}
		p.seen.mu.Unlock()
	}
}

// has tells whether something is on the page.
func (p *person) has(selector string) bool {
	p.Helper()
	return ask[bool](p, `document.querySelector(%s) !== null`, selector)
}

// says fails the test unless the page has each text.
func (p *person) says(texts ...string) {
	p.Helper()
	page := ask[string](p, `document.body.innerText`)
	for _, text := range texts {
		if !strings.Contains(page, text) {
			p.Errorf("the page lacks %q:\n%s", text, page)
		}
	}
}

// text is what an element says.
func (p *person) text(selector string) string {
	p.Helper()
	return ask[string](p, `document.querySelector(%s).innerText`, selector)
}

// fill types into a field, over what is there.
func (p *person) fill(selector, text string) {
	p.Helper()
	if p.keyboard {
		p.tabTo(selector) // which selects what is there
		p.do(chromedp.KeyEvent(text))
		p.readable(selector)
		return
	}
	p.do(chromedp.Click(chromedp.CSS(selector)))
	ask[bool](p, `document.activeElement.select(), true`)
	_, err := chromedp.Call(p.ctx, input.InsertText, input.InsertTextParams{Text: text})
	check(p.T, err)
	p.readable(selector)
}

// readable fails the test if a code that was typed, which people compare, does not fit into its field.
func (p *person) readable(selector string) {
	p.Helper()
	if !p.has(selector + ".code") {
		return
	}
	if cut := ask[int](p, `(e => e.scrollWidth - e.clientWidth)(document.querySelector(%s))`, selector); cut > 0 {
		p.Errorf("%s: %d pixels of what was typed cannot be seen", selector, cut)
	}
}

// toggle opens a fold, or picks a choice.
func (p *person) toggle(selector string) {
	p.Helper()
	if !p.keyboard {
		p.do(chromedp.Click(chromedp.CSS(selector)))
		return
	}
	p.tabTo(selector)
	p.do(chromedp.KeyEvent(" "))
}

// press activates a button or a link, and waits for the page that follows.
func (p *person) press(selector, id string) {
	p.Helper()
	ask[string](p, `document.documentElement.dataset.left = "1"`)
	p.activate(selector)
	p.at(id)
}

func (p *person) activate(selector string) {
	p.Helper()
	if !p.keyboard {
		p.do(chromedp.Click(chromedp.CSS(selector)))
		return
	}
	p.tabTo(selector)
	p.do(chromedp.KeyEvent(kb.Enter))
}

// submit presses Enter in a field, as most people do who type.
func (p *person) submit(selector, text, id string) {
	p.Helper()
	p.fill(selector, text)
	ask[string](p, `document.documentElement.dataset.left = "1"`)
	p.do(chromedp.KeyEvent(kb.Enter))
	p.at(id)
}

// tabTo presses Tab until something has the focus.
func (p *person) tabTo(selector string) {
	p.Helper()
	var passed []string
	for range 60 {
		if ask[bool](p, `document.activeElement.matches(%s)`, selector) {
			return
		}
		p.do(chromedp.KeyEvent(kb.Tab))
		passed = append(passed, ask[string](p, `document.activeElement.id || document.activeElement.tagName`))
	}
	p.Fatalf("Tab does not lead to %s, only to %v", selector, passed)
}

// stop is where Tab leads.
type stop struct {
	Name    string `json:"name"`
	Index   int    `json:"index"` // among all that can have the focus, -1 for none of them
	Outline string `json:"outline"`
	Seen    bool   `json:"seen"` // inside the window
}

const (
	// stops are the elements of a page that Tab should lead to, in their order; of radio buttons with one name the picked one, or the first.
	stops = `[...document.querySelectorAll("a[href], button, input, summary, select, textarea")]
		.filter(e => e.type !== "hidden" && !e.disabled && e.checkVisibility() && e.getClientRects().length > 0)
		.filter(e => e.type !== "radio" || e === (document.querySelector('input[type=radio]:checked[name="' + e.name + '"]') ?? document.getElementsByName(e.name)[0]))`

	focused = `(() => {
		const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
		return { name: e.id || e.tagName, index: ` + stops + `.indexOf(e), outline: style.outlineStyle + " " + style.outlineWidth,
			seen: box.width > 0 && box.top >= 0 && box.bottom <= innerHeight + 1 && box.left >= 0 && box.right <= innerWidth };
	})()`
)

// tabThrough goes once around a page by Tab, and leaves the focus where it was: everything that can be used is reached, in the order in
// which it is read, and can be seen to have the focus; and there is a way out.
func (p *person) tabThrough(id string) {
	p.Helper()
	n := ask[int](p, stops+`.length`)
	start := ask[stop](p, focused)
	var reached []int
	out := false
	for range n + 1 { // once more, for what is outside of the page
		p.do(chromedp.KeyEvent(kb.Tab))
		s := ask[stop](p, focused)
		if s.Index < 0 {
			out = true
			continue
		}
		if s.Outline != "solid 3px" || !s.Seen {
			p.Errorf("%s: at %s the outline is %q, in the window: %t", id, s.Name, s.Outline, s.Seen)
		}
		reached = append(reached, s.Index)
	}
	want := []int{}
	for i := range n {
		want = append(want, (start.Index+1+i)%n) // from outside into the page, through it, and out again
	}
	if !out || !slices.Equal(reached[:min(n, len(reached))], want) {
		names := ask[[]string](p, stops+`.map(e => e.id || e.tagName + " " + e.innerText)`)
		p.Errorf("%s: Tab leads to %v, not to %v of %q; out of the page: %t", id, reached, want, names, out)
	}
}

// logIn types the user name and the password.
func (p *person) logIn(id string) {
	p.Helper()
	p.logInWith(authztest.Password, id)
}

func (p *person) logInWith(password, id string) {
	p.Helper()
	p.fill("#username", p.username)
	p.submit("#password", password, id)
}
