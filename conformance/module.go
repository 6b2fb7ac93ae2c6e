package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	moduleLimit = 5 * time.Minute  // what a module may take; the longest sleep a minute or two
	personLimit = 20 * time.Second // how long it may wait for a person, who never comes
	lookEvery   = 3 * time.Second
	endLimit    = 20 * time.Second // for one that was told to stop
)

// Results of a module. The first five are the suite's words; the last is ours.
const (
	passed   = "PASSED"
	review   = "REVIEW"
	warning  = "WARNING"
	failed   = "FAILED"
	skipped  = "SKIPPED"
	notEnded = "INTERRUPTED" // the run was stopped
)

// moduleResult is what came of one module.
type moduleResult struct {
	moduleSpec
	ID      string
	Result  string
	Note    string // why it was given up, or why a result that may be right is not here; "" otherwise
	Seconds float64
	Unmet   []logEntry // conditions that failed or warned
	log     []byte
}

// good tells whether the result is the one that the configuration promises.
func (r *moduleResult) good() bool {
	return r.Note == "" && (r.Result == passed || r.Result == review || r.Result == skipped)
}

// hook does what a module asks of the tester before it is started.
type hook func(context.Context) error

// moduleRun runs the modules of one plan, one at a time: two with one alias push each other out.
type moduleRun struct {
	suite    *suiteAPI
	plan     string // its id
	hooks    map[string]hook
	patience time.Duration      // how long a module may wait for a person
	pictures map[string]picture // modules in which a page is looked at
}

// run runs a module to its end. What goes wrong is in the result.
func (r *moduleRun) run(ctx context.Context, m moduleSpec) *moduleResult {
	begun := time.Now()
	result := &moduleResult{moduleSpec: m}
	var err error
	if result.ID, err = r.suite.createModule(ctx, r.plan, m); err == nil {
		err = r.drive(ctx, result.ID, m.Name)
		result.conclude(r, err)
	} else {
		result.Result, result.Note = failed, err.Error()
	}
	if ctx.Err() != nil {
		result.Result, result.Note = notEnded, "the run was stopped"
	}
	result.Seconds = time.Since(begun).Seconds()
	return result
}

// drive sees a module to its end. It returns why it was given up.
func (r *moduleRun) drive(ctx context.Context, id, name string) error {
	deadline := time.Now().Add(moduleLimit)
	state, err := r.suite.waitState(ctx, id, moduleLimit, configured, waiting, finished, interrupted)
	if err != nil {
		return err
	}
	if state == configured {
		if prepare := r.hooks[name]; prepare != nil {
			if err := prepare(ctx); err != nil {
				return err
			}
		}
		if err := r.suite.start(ctx, id); err != nil {
			return err
		}
	}
	var idle time.Time
	for time.Now().Before(deadline) {
		if state, err = r.suite.waitState(ctx, id, min(lookEvery, r.patience), finished, interrupted); err != nil || state != "" {
			return err
		}
		wants, err := r.wantsPerson(ctx, id)
		switch {
		case err != nil:
			return err
		case wants == "":
			idle = time.Time{}
		case idle.IsZero():
			idle = time.Now()
		case time.Since(idle) > r.patience:
			return errors.New(wants)
		}
	}
	return fmt.Errorf("not finished after %v", moduleLimit)
}

// wantsPerson tells what a module waits for that no script will do; "" when it still runs.
func (r *moduleRun) wantsPerson(ctx context.Context, id string) (string, error) {
	browser, err := r.suite.browser(ctx, id)
	if err != nil || len(browser.Runners) > 0 {
		return "", err
	}
	info, err := r.suite.info(ctx, id)
	if err != nil || info.Status == running {
		return "", err
	}
	pictures, err := r.suite.missingPictures(ctx, id)
	var wants []string
	if len(browser.URLs) > 0 {
		wants = append(wants, "no script of the configuration is for the page "+short(browser.URLs[0], 200))
	}
	if len(pictures) > 0 {
		wants = append(wants, "a page was expected and not seen: "+pictures[0])
	}
	return strings.Join(wants, "; "), err
}

// conclude reads the outcome. gaveUp is why the module was given up, if it was.
func (m *moduleResult) conclude(r *moduleRun, gaveUp error) {
	// The caller may be on its way out, but the suite must be left tidy and the log be read.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if gaveUp != nil {
		m.Note = gaveUp.Error()
		if err := r.suite.stop(ctx, m.ID); err == nil {
			r.suite.waitState(ctx, m.ID, endLimit, finished, interrupted)
		}
	}
	info, err := r.suite.ended(ctx, m.ID)
	if err != nil {
		m.Result, m.Note = failed, joinNotes(m.Note, err.Error())
		return
	}
	entries, whole, err := r.suite.log(ctx, m.ID)
	if err != nil {
		m.Note = joinNotes(m.Note, err.Error())
	}
	m.log = whole
	m.judge(info, entries, r.pictures[m.Name].text)
}

// judge makes the suite's verdict ours. page is the text of the page that the suite wants seen, if any.
func (m *moduleResult) judge(info moduleInfo, log []logEntry, page string) {
	for _, e := range log {
		if e.Result == "FAILURE" || e.Result == warning {
			m.Unmet = append(m.Unmet, e)
		}
	}
	m.Result = info.Result
	switch {
	case m.Note != "" || info.Status != finished:
		m.Result, m.Note = failed, joinNotes(m.Note, "status "+info.Status)
	case info.Result == review:
		m.Note = reviewed(log, page)
	case info.Result == skipped && expectedSkips[m.Name] == "":
		m.Note = "nobody said why this may be skipped: " + lastMessage(log)
	case info.Result != passed && info.Result != skipped && info.Result != warning:
		m.Result = failed // also UNKNOWN, and nothing at all
	}
}

// reviewed returns what is wrong with a review. It is right when every page that the suite wanted somebody to look at was
// found, by a text that no other page has.
func reviewed(log []logEntry, page string) string {
	if page == "" {
		return "a review that the configuration does not expect"
	}
	seen := 0
	for _, e := range log {
		if e.Result != review {
			continue
		}
		if e.Matched != page && !e.NotNeeded {
			return "a page was wanted and not seen: " + e.Message
		}
		seen++
	}
	if seen == 0 {
		return "a review, but no page was wanted"
	}
	return ""
}

func lastMessage(log []logEntry) string {
	for i := len(log) - 1; i >= 0; i-- {
		if strings.Contains(strings.ToLower(log[i].Message), "skip") {
			return log[i].Message
		}
	}
	return "its log does not say why"
}

// why says in a line what is wrong with a result; "" if nothing is.
func (m *moduleResult) why() string {
	var parts []string
	if m.Note != "" {
		parts = append(parts, m.Note)
	}
	if len(m.Unmet) > 0 {
		parts = append(parts, m.Unmet[0].line())
	}
	return oneLine(strings.Join(parts, " / "))
}

func (e logEntry) line() string {
	text := e.Source + ": " + e.Message
	if len(e.Requirements) > 0 {
		text += " " + fmt.Sprint(e.Requirements)
	}
	return text
}

func joinNotes(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func short(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
