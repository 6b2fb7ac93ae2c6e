package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// standIn answers like the suite. Each module has a course: the states it goes through, its result and its log.
type standIn struct {
	mu      sync.Mutex
	courses map[string]course
	names   map[string]string // of modules, by id
	started []string
	stopped []string
	stumble int // so many reading calls fail first
}

type course struct {
	waitsForStart bool
	hangs         bool // no script is for the page it wants
	result        string
	log           []map[string]any
}

func (s *standIn) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) { json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("GET /api/server", func(w http.ResponseWriter, _ *http.Request) {
		if s.stumble > 0 {
			s.stumble--
			http.Error(w, "later", http.StatusBadGateway)
			return
		}
		answer(w, map[string]string{"version": "5.2.3"})
	})
	mux.HandleFunc("POST /api/plan", func(w http.ResponseWriter, r *http.Request) {
		var config suiteConfig
		if err := json.NewDecoder(r.Body).Decode(&config); err != nil || config.Alias == "" || r.URL.Query().Get("planName") == "" {
			http.Error(w, "no plan", http.StatusBadRequest)
			return
		}
		var modules []moduleSpec
		for name := range s.courses {
			modules = append(modules, moduleSpec{name, map[string]string{"response_type": "code"}})
		}
		slices.SortFunc(modules, func(a, b moduleSpec) int { return strings.Compare(a.Name, b.Name) })
		w.WriteHeader(http.StatusCreated)
		answer(w, map[string]any{"id": "plan", "modules": modules})
	})
	mux.HandleFunc("POST /api/runner", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		id := fmt.Sprintf("m%d", len(s.names))
		s.names[id] = r.URL.Query().Get("test")
		w.WriteHeader(http.StatusCreated)
		answer(w, map[string]string{"id": id})
	})
	mux.HandleFunc("POST /api/runner/{id}", func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.started = append(s.started, s.names[r.PathValue("id")])
	})
	mux.HandleFunc("DELETE /api/runner/{id}", func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stopped = append(s.stopped, s.names[r.PathValue("id")])
	})
	mux.HandleFunc("GET /api/runner/{id}/{what}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "browser" {
			answer(w, map[string]any{"urls": []string{"https://bank.example/unknown"}, "runners": []string{}})
			return
		}
		state := s.state(r.PathValue("id"))
		if state == finished {
			http.NotFound(w, r) // it has left the memory
		} else if slices.Contains(strings.Split(r.URL.Query().Get("states"), ","), state) {
			answer(w, map[string]string{"state": state})
		} else {
			answer(w, map[string]bool{"timeout": true})
		}
	})
	mux.HandleFunc("GET /api/info/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		answer(w, map[string]string{"status": s.state(id), "result": s.course(id).result})
	})
	mux.HandleFunc("GET /api/log/{id}", func(w http.ResponseWriter, r *http.Request) { answer(w, s.course(r.PathValue("id")).log) })
	mux.HandleFunc("GET /api/log/{id}/images", func(w http.ResponseWriter, r *http.Request) { answer(w, s.course(r.PathValue("id")).log) })
	return mux
}

func (s *standIn) course(id string) course {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.courses[s.names[id]]
}

func (s *standIn) state(id string) string {
	c := s.course(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	name := s.names[id]
	switch {
	case slices.Contains(s.stopped, name):
		return interrupted
	case c.hangs:
		return waiting
	case c.waitsForStart && !slices.Contains(s.started, name):
		return configured
	}
	return finished
}

// serve starts the stand-in and returns a setup that runs plans in it.
func (s *standIn) serve(t *testing.T) *setup {
	t.Helper()
	s.names = map[string]string{}
	server := httptest.NewTLSServer(s.handler())
	t.Cleanup(server.Close)
	out := *preparedFolder(t)
	out.Dir = t.TempDir()
	content, err := os.ReadFile(preparedFolder(t).file("cs-oidc-basic-static.json"))
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for file, text := range map[string][]byte{"cs-oidc-basic-static.json": content, "ca.pem": ca} {
		if err := write(out.file(file), text); err != nil {
			t.Fatal(err)
		}
	}
	out.Suite, out.SuiteCA, out.ServerRunning, out.Jobs, out.Repeat = server.URL, out.file("ca.pem"), true, 2, 1
	out.Plans = []string{"cs-oidc-basic-static"}
	return &out
}

var goodCourses = map[string]course{
	"oidcc-server":           {result: passed},
	"oidcc-prompt-login":     {result: review, log: []map[string]any{{"result": "REVIEW", "msg": "page", "matched_regexp": loginAgain.text}}},
	"oidcc-idtoken-unsigned": {result: skipped, log: []map[string]any{{"msg": "The test was skipped: none"}}},
}

func TestRun_PassesWhatIsAsItMustBe(t *testing.T) {
	s := (&standIn{courses: goodCourses, stumble: 1}).serve(t)
	s.Repeat = 2
	if err := s.runPlans(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"1", "2"} {
		table, err := os.ReadFile(s.file("results", n, "results.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"Suite 5.2.3, commit ",
			"### oidcc-basic-certification-test-plan\n",
			"| discovery, static_client | 3 | 1 | 1 | 1 | 0 | 0 |\n",
			"- SKIPPED `oidcc-idtoken-unsigned [code]`: ID tokens are always signed (cs-oidc-basic-static)\n",
			"- REVIEW `oidcc-prompt-login [code]` (cs-oidc-basic-static)\n",
		} {
			if !strings.Contains(string(table), want) {
				t.Errorf("the table lacks %q:\n%s", want, table)
			}
		}
		logs, err := filepath.Glob(s.file("results", n, "cs-oidc-basic-static", "*.json"))
		if err != nil || len(logs) != 2 {
			t.Errorf("logs %v, %v: want those of the two modules that did not simply pass", logs, err)
		}
	}
}

func TestRun_FailsOnAnythingElse(t *testing.T) {
	for name, c := range map[string]struct {
		module string
		course course
		want   string // in JUnit
	}{
		"failed":                       {"oidcc-server", course{result: failed, log: []map[string]any{{"result": "FAILURE", "src": "CheckState", "msg": "no state"}}}, "CheckState: no state"},
		"warned":                       {"oidcc-server", course{result: warning, log: []map[string]any{{"result": "WARNING", "src": "CheckSid", "msg": "sid"}}}, "CheckSid: sid"},
		"no result":                    {"oidcc-server", course{result: "UNKNOWN"}, `type="FAILED"`},
		"a review that nobody expects": {"oidcc-server", course{result: review, log: []map[string]any{{"result": "REVIEW", "matched_regexp": "x"}}}, "does not expect"},
		"a review of another page": {"oidcc-prompt-login",
			course{result: review, log: []map[string]any{{"result": "REVIEW", "msg": "second login", "matched_regexp": "x"}}}, "not seen: second login"},
		"a review of nothing":   {"oidcc-prompt-login", course{result: review}, "no page was wanted"},
		"a skip without reason": {"oidcc-server", course{result: skipped, log: []map[string]any{{"msg": "The test was skipped: so"}}}, "was skipped: so"},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&standIn{courses: map[string]course{c.module: c.course}}).serve(t)
			if err := s.runPlans(t.Context()); err == nil {
				t.Error("the run passed")
			}
			junit, err := os.ReadFile(s.file("results", "1", "junit.xml"))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(junit), c.want) {
				t.Errorf("JUnit lacks %q:\n%s", c.want, junit)
			}
		})
	}
}

func TestRun_GivesUpWhatWaitsForAPerson(t *testing.T) {
	stand := &standIn{courses: map[string]course{"oidcc-server": {hangs: true, log: []map[string]any{{"upload": "1", "result": "REVIEW", "msg": "the login page"}}}}}
	s := stand.serve(t)
	s.patience = 10 * time.Millisecond
	if err := s.runPlans(t.Context()); err == nil {
		t.Error("the run passed")
	}
	if !slices.Contains(stand.stopped, "oidcc-server") {
		t.Error("the module still runs in the suite")
	}
	table, err := os.ReadFile(s.file("results", "1", "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"https://bank.example/unknown", "expected and not seen: the login page"} {
		if !strings.Contains(string(table), want) {
			t.Errorf("the table lacks %q:\n%s", want, table)
		}
	}
}

func TestRun_RunsHooksBeforeTheStart(t *testing.T) {
	for name, fault := range map[string]error{"done": nil, "failed": errors.New("no keys")} {
		t.Run(name, func(t *testing.T) {
			stand := &standIn{courses: map[string]course{"rotate": {waitsForStart: true, result: passed}}}
			s := stand.serve(t)
			suite, err := openSuite(s.Suite, s.SuiteCA)
			if err != nil {
				t.Fatal(err)
			}
			ran := false
			r := &moduleRun{suite: suite, patience: time.Second, hooks: map[string]hook{"rotate": func(context.Context) error {
				ran = len(stand.started) == 0
				return fault
			}}}
			result := r.run(t.Context(), moduleSpec{Name: "rotate"})
			if !ran {
				t.Error("the hook did not run before the start")
			}
			if result.good() != (fault == nil) || slices.Contains(stand.started, "rotate") != (fault == nil) {
				t.Errorf("%s %s, started %v", result.Result, result.Note, stand.started)
			}
		})
	}
}

func TestRun_WritesWhatItHasWhenStopped(t *testing.T) {
	s := (&standIn{courses: map[string]course{"a": {result: passed}, "b": {hangs: true}, "c": {result: passed}}}).serve(t)
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	if err := s.runPlans(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	content, err := os.ReadFile(s.file("results", "1", "junit.xml"))
	if err != nil {
		t.Fatal(err)
	}
	var junit junitSuites
	if err := xml.Unmarshal(content, &junit); err != nil {
		t.Fatal(err)
	}
	if junit.Tests != 3 || junit.Failures != 2 {
		t.Errorf("%d tests, %d failures; want a that passed, b that was stopped, c that never ran:\n%s", junit.Tests, junit.Failures, content)
	}
}

func TestRun_SaysWhichPlanTheSuiteDoesNotTake(t *testing.T) {
	s := (&standIn{courses: goodCourses}).serve(t)
	if err := write(s.file("cs-oidc-basic-static.json"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if err := s.runPlans(t.Context()); err == nil {
		t.Error("the run passed")
	}
	table, _ := os.ReadFile(s.file("results", "1", "results.md"))
	if !strings.Contains(string(table), "- not run: suite: POST plan: 400 Bad Request: no plan (cs-oidc-basic-static)") {
		t.Errorf("table:\n%s", table)
	}
}

func TestCompareRuns_NamesWhatDiffers(t *testing.T) {
	result := func(results ...string) *conformanceRun {
		p := &planResult{combination: combination{alias: "cs-x"}}
		for i, r := range results {
			p.results = append(p.results, &moduleResult{moduleSpec: moduleSpec{Name: fmt.Sprint("m", i)}, Result: r})
		}
		return &conformanceRun{plans: []*planResult{p}}
	}
	if err := compareRuns(result(passed, review), result(passed, review)); err != nil {
		t.Error(err)
	}
	for _, other := range []*conformanceRun{result(passed, passed), result(passed), result(passed, review, passed)} {
		if err := compareRuns(result(passed, review), other); err == nil || !strings.Contains(err.Error(), "cs-x: ") {
			t.Errorf("difference not named: %v", err)
		}
	}
}

func TestWanted_ByPlanOrAlias(t *testing.T) {
	for glob, want := range map[string]int{
		"fapi2-security-*": 20, "fapi2-message-signing-final-test-plan": 32, "fapi1-*": 8, "oidcc-*": 16, "cs-mtls-*-cc": 2, "nothing": 0,
	} {
		s := testSetup("")
		s.Plans = []string{glob}
		if got := len(s.wanted()); got != want {
			t.Errorf("%s: %d plans, want %d", glob, got, want)
		}
	}
}
