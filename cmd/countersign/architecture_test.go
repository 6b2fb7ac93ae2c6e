package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/authz/authztest"
)

// These tests are of the repository itself: what docs/ARCHITECTURE.md says of it is so.

const (
	module = "github.com/countersign/countersign"
	root   = "../.."
)

// layers are the folders from top to bottom: imports go down, never up. resource stands above fapi, which it imports.
var layers = []string{"cmd", "conformance", "authz", "consent", "authn", "resource", "fapi", "audit", "reach", "outbound", "web", "storage", "migrations"}

// sourceFile is a Go file of ours.
type sourceFile struct {
	path string // from the root
	dir  string
	test bool // a test, or a package that only tests import
	*ast.File
	lines int
}

func (f *sourceFile) imports() []string {
	var all []string
	for _, i := range f.Imports {
		name, _ := strconv.Unquote(i.Path.Value)
		all = append(all, name)
	}
	return all
}

// source reads all Go files but those of third_party.
func source(t *testing.T) []*sourceFile {
	t.Helper()
	var all []*sourceFile
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		short, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		short = filepath.ToSlash(short)
		if d.IsDir() {
			if short == "third_party" || d.Name() == "testdata" || short != "." && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		}
		if path.Ext(short) != ".go" {
			return nil
		}
		parsed, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := path.Dir(short)
		all = append(all, &sourceFile{short, dir, strings.HasSuffix(short, "_test.go") || isTestHelper(dir), parsed, fset.File(parsed.Pos()).LineCount()})
		return nil
	})
	if err != nil || len(all) < 50 {
		t.Fatalf("%d Go files found: %v", len(all), err)
	}
	return all
}

// isTestHelper tells whether a folder is a package for tests, as net/http/httptest is.
func isTestHelper(dir string) bool { return strings.HasSuffix(dir, "test") }

func TestArchitecture_ImportsGoDown(t *testing.T) {
	t.Parallel()
	for _, f := range source(t) {
		from := slices.Index(layers, strings.Split(f.dir, "/")[0])
		if from < 0 {
			t.Errorf("%s: the folder is not in the list of docs/ARCHITECTURE.md. Decide where it stands, write it there and in layers here.", f.path)
			continue
		}
		for _, name := range f.imports() {
			short, ours := strings.CutPrefix(name, module+"/")
			if !ours {
				continue
			}
			if isTestHelper(short) {
				if !f.test {
					t.Errorf("%s imports %s: that is for tests; a server must not carry it.", f.path, short)
				}
				continue
			}
			if to := slices.Index(layers, strings.Split(short, "/")[0]); to < from {
				t.Errorf("%s imports %s: imports go down the list %s, never up. A lower layer that calls a higher one takes a function or an interface of its own.",
					f.path, short, strings.Join(layers, ", "))
			}
		}
	}
}

// walls are packages that know less than their place in the list allows.
var walls = []struct {
	of     string
	allows []string
	why    string
}{
	{"fapi", nil, "the rules are pure: no database, no globals, no HTTP serving; usable and fuzzable alone"},
	{"resource", []string{"fapi"}, "other people's services import it, and must not get a server with it"},
	{"outbound", nil, "calls on a client's word are made alike, whoever asks for them"},
	{"reach", []string{"outbound"}, "it sends what it is told to whom it is told: neither queue nor store nor protocol"},
	{"web", nil, "pages know what they show, not where it comes from"},
	{"storage", []string{"migrations", "storage"}, "the store does not know who asks"},
}

func TestArchitecture_Walls(t *testing.T) {
	t.Parallel()
	for _, f := range source(t) {
		for _, name := range f.imports() {
			if strings.HasPrefix(name, "github.com/ory/") && f.dir != "authz/engine" {
				t.Errorf("%s imports %s: only authz/engine may. fosite is frozen upstream: the day it must go, one folder changes (docs/decisions/0001).", f.path, name)
			}
			short, ours := strings.CutPrefix(name, module+"/")
			if !ours || f.test {
				continue
			}
			for _, w := range walls {
				if top := strings.Split(short, "/")[0]; strings.Split(f.dir, "/")[0] == w.of && top != w.of && !slices.Contains(w.allows, top) {
					t.Errorf("%s imports %s: %s may import %v of ours. %s.", f.path, short, w.of, w.allows, w.why)
				}
			}
		}
	}
}

func TestArchitecture_OnlyCommandsReadTheEnvironment(t *testing.T) {
	t.Parallel()
	for _, f := range source(t) {
		top := strings.Split(f.dir, "/")[0]
		if f.test || top == "cmd" || top == "conformance" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := call.X.(*ast.Ident); ok && (pkg.Name == "os" || pkg.Name == "syscall") &&
				slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, call.Sel.Name) {
				t.Errorf("%s reads the environment (%s.%s): configuration is one typed struct, read once at the start in cmd. Pass what is needed.", f.path, pkg.Name, call.Sel.Name)
			}
			return true
		})
	}
}

func TestArchitecture_Packages(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, f := range source(t) {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		if f.lines > 600 {
			t.Errorf("%s has %d lines: over 600 nobody reads a file. Split it by what it is about.", f.path, f.lines)
		}
		switch name := f.Name.Name; name {
		case "util", "utils", "common", "helper", "helpers", "model", "models", "types", "misc", "base":
			t.Errorf("%s: package %s: such a name says nothing, so everything ends up there. Name it for what it does.", f.path, name)
		}
		doc := f.Doc.Text()
		documented[f.dir] = documented[f.dir] || strings.HasPrefix(doc, "Package "+f.Name.Name+" ") ||
			strings.HasPrefix(doc, "Command ") && f.Name.Name == "main"
	}
	for dir, there := range documented {
		if !there {
			t.Errorf("%s has no package comment: it says what belongs there and what does not.", dir)
		}
	}
}

var replacePattern = regexp.MustCompile(`(?m)^\s*(?:replace\s+)?(\S+)(?:\s+v\S+)?\s+=>\s+(\S+)`)

func TestArchitecture_OneReplace(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range replacePattern.FindAllStringSubmatch(string(text), -1) {
		if m[1] != "github.com/ory/x" || m[2] != "./third_party/oryx" {
			t.Errorf("go.mod replaces %s by %s: whoever imports fapi or resource does not get our replacements. Only ory/x is, which they do not import (docs/decisions/0002).", m[1], m[2])
		}
	}
}

// endpoint is a row of docs/endpoints.md.
type endpoint struct {
	path      string
	methods   []string
	listeners []string
}

var endpointRow = regexp.MustCompile("(?m)^\\| `(/[^`]*)` \\| ([A-Z, ]+) \\| ([a-z, ]+) \\|")

func documentedEndpoints(t *testing.T) map[string]endpoint {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "endpoints.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]endpoint{}
	for _, m := range endpointRow.FindAllStringSubmatch(string(text), -1) {
		if _, twice := all[m[1]]; twice {
			t.Errorf("docs/endpoints.md has %s twice", m[1])
		}
		all[m[1]] = endpoint{m[1], strings.Split(m[2], ", "), strings.Split(m[3], ", ")}
	}
	return all
}

var pathLiteral = regexp.MustCompile(`^/[a-z.][A-Za-z0-9._{}/-]*$`)

// named returns the paths that the source of the serving packages names, and those of a router.
func named(t *testing.T, handlers map[string]http.Handler) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, f := range source(t) {
		if f.test || !slices.Contains([]string{"authz", "authn", "consent", "web"}, f.dir) {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil && pathLiteral.MatchString(text) {
					all[text] = true
				}
			}
			return true
		})
	}
	for _, h := range handlers {
		router, ok := h.(*mux.Router)
		if !ok {
			continue
		}
		err := router.Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
			template, err := route.GetPathTemplate()
			all[template] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// anId stands for nothing, in the form that a path wants.
var anId = strings.NewReplacer("{ConsentId}", "aac-none", "/transactions/{id}", "/transactions/00000000-0000-4000-8000-000000000000")

// ask sends a request without a body, and returns the status and what the answer says of the methods.
func ask(h http.Handler, method, path string) (status int, allow string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, anId.Replace(path), nil))
	return w.Code, strings.Join(w.Header().Values("Allow"), ", ")
}

// Every route is in the manual, answers the methods that the manual says on the listeners that it says, and no others;
// every endpoint of the discovery document is there too.
func TestArchitecture_EveryRouteIsInTheManual(t *testing.T) {
	t.Parallel()
	s := authztest.Start(t, authztest.Options{ // with all that may be off; passkeys are of a name
		Issuer: "https://bank.example", MTLSBase: "https://mtls.bank.example", Approving: authn.Transactions{Password: true},
	})
	handlers := map[string]http.Handler{"public": s.Public(), "mutual": s.MutualTLS(), "health": s.Health()}
	manual := documentedEndpoints(t)
	if len(manual) < 20 {
		t.Fatalf("docs/endpoints.md: %d endpoints found", len(manual))
	}
	methods := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

	for path := range named(t, handlers) {
		if _, there := manual[path]; there {
			continue
		}
		for name, h := range handlers {
			if status, _ := ask(h, http.MethodGet, path); status != http.StatusNotFound {
				t.Errorf("%s is served on the %s listener (GET: %d) and not in docs/endpoints.md: write it there, with its standard, who may call it and its errors.", path, name, status)
			}
		}
	}

	for _, e := range manual {
		if e.path == "/static/" {
			continue // only files that exist are served; web's own tests look at them
		}
		for name, h := range handlers {
			served := slices.Contains(e.listeners, name)
			for _, method := range methods {
				status, allow := ask(h, method, e.path)
				switch documented := slices.Contains(e.methods, method); {
				case !served && status != http.StatusNotFound:
					t.Errorf("%s %s is answered with %d on the %s listener, where docs/endpoints.md does not have it.", method, e.path, status, name)
				case served && documented && (status == http.StatusMethodNotAllowed || status == http.StatusNotFound && e.path != "/sign-up" && !strings.HasPrefix(e.path, "/login/idp/{id}")):
					t.Errorf("%s %s is in docs/endpoints.md, but the %s listener answers %d.", method, e.path, name, status)
				case served && !documented && status != http.StatusMethodNotAllowed:
					t.Errorf("%s %s is answered with %d on the %s listener, and docs/endpoints.md has only %v.", method, e.path, status, name, e.methods)
				case served && !documented && !sameMethods(allow, e.methods):
					t.Errorf("%s %s is told Allow: %q on the %s listener, and docs/endpoints.md has %v.", method, e.path, allow, name, e.methods)
				}
			}
		}
	}

	w := httptest.NewRecorder()
	handlers["public"].ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/.well-known/openid-configuration", nil))
	var document map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	aliases, _ := document["mtls_endpoint_aliases"].(map[string]any)
	maps.Copy(aliases, map[string]any{"authorization_endpoint": document["authorization_endpoint"], "jwks_uri": document["jwks_uri"]})
	for member := range document {
		if strings.HasSuffix(member, "_endpoint") {
			aliases["public "+member] = document[member]
		}
	}
	if len(aliases) < 10 {
		t.Errorf("the discovery document has only %v", aliases)
	}
	for member, address := range aliases {
		text, _ := address.(string)
		short, ours := strings.CutPrefix(text, s.Config.Issuer)
		if !ours {
			short, ours = strings.CutPrefix(text, s.Config.MTLSBase)
		}
		if strings.HasSuffix(member, "grant_management_endpoint") {
			short += "/{grant_id}" // which clients append (Grant Management for OAuth 2.0 §6.3)
		}
		if _, there := manual[short]; !ours || !there {
			t.Errorf("the discovery document has %s %q, which is not in docs/endpoints.md", member, text)
		}
	}
}

// sameMethods compares what an answer says with the manual. HEAD goes without saying where GET is.
func sameMethods(allow string, want []string) bool {
	got := strings.Split(allow, ", ")
	if slices.Contains(got, http.MethodGet) && !slices.Contains(got, http.MethodHead) && slices.Contains(want, http.MethodHead) {
		got = append(got, http.MethodHead)
	}
	slices.Sort(got)
	return slices.Equal(got, slices.Sorted(slices.Values(want)))
}
