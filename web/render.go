package web

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	//go:embed templates/*.html
	templateFiles embed.FS
	//go:embed texts/*.json
	textFiles embed.FS
)

var pageNames = []string{
	"login", "second_factor", "enrol", "enrol_factor", "add_factor", "recovery_codes", "sign_up", "sign_up_code", "recover", "recover_code", "invitation", "consent", "consents", "sign_out", "done", "error", "form_post", "device", "approvals",
	"transactions", "transaction", "transaction_password",
	"link", "prove_link", "link_sign_up",
	"self", "self_profile", "self_contact", "self_password", "self_factors", "self_sessions", "self_activity", "self_data",
}

// Pages renders every page in the name of one brand. Safe for concurrent use.
type Pages struct {
	brand     Brand
	texts     map[string]string
	templates map[string]*template.Template
	frame     frame
	hsts      bool

	style, icon, logo *file
	app               app
}

// frame is what surrounds a page and is the same for all of them.
type frame struct {
	Lang, Dir             string
	Name, Short, Monogram string
	StyleURL, IconURL     string
	LogoURL               string
	Support               string
	SupportURL            template.URL
	PrivacyURL, TermsURL  string
}

// New checks the brand, reads the catalogue and parses the templates.
func New(b Brand) (*Pages, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	if b.Language == "" {
		b.Language = "en"
	}
	p := &Pages{brand: b, hsts: true}
	if err := p.readTexts(); err != nil {
		return nil, err
	}
	p.style, p.icon, p.logo = staticFiles(b)
	p.frame = frame{
		Lang: b.Language, Dir: p.texts["dir"],
		Name: b.Name, Short: b.Short, Monogram: firstLetter(b.Short),
		StyleURL: p.style.url(), IconURL: p.icon.url(),
		Support: b.Support, SupportURL: supportLink(b.Support),
		PrivacyURL: b.PrivacyURL, TermsURL: b.TermsURL,
	}
	if err := p.makeApp(); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if p.logo != nil {
		p.frame.LogoURL = p.logo.url()
	}
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Pages) readTexts() error {
	raw, err := textFiles.ReadFile("texts/" + p.brand.Language + ".json")
	if err != nil {
		return fmt.Errorf("web: brand: no texts in language %q", p.brand.Language)
	}
	if err := json.Unmarshal(raw, &p.texts); err != nil {
		return fmt.Errorf("web: texts/%s.json: %w", p.brand.Language, err)
	}
	for key, text := range p.brand.Texts {
		if _, known := p.texts[key]; !known {
			return fmt.Errorf("web: brand: unknown text %q", key)
		}
		if strings.Contains(text, "{{") {
			return fmt.Errorf("web: brand: text %q holds {{: placeholders have one brace", key)
		}
	}
	maps.Copy(p.texts, p.brand.Texts)
	return nil
}

func (p *Pages) parse() error {
	layout, err := p.parseFiles(template.New("").Funcs(p.functions()), "layout", "parts", "own")
	if err != nil {
		return err
	}
	p.templates = make(map[string]*template.Template, len(pageNames))
	for _, name := range pageNames {
		page, err := layout.Clone()
		if err != nil {
			return fmt.Errorf("web: %w", err)
		}
		if page, err = p.parseFiles(page, name); err != nil {
			return err
		}
		p.templates[name] = page.Lookup("layout")
	}
	return nil
}

// fixedText is a text without values. Half of a page is made of them, so they
// are put into the templates before those are parsed.
var fixedText = regexp.MustCompile(`\{\{t "([^"]+)"\}\}`)

func (p *Pages) parseFiles(t *template.Template, names ...string) (*template.Template, error) {
	for _, name := range names {
		source, err := templateFiles.ReadFile("templates/" + name + ".html")
		if err != nil {
			return nil, fmt.Errorf("web: %w", err)
		}
		source = fixedText.ReplaceAllFunc(source, func(found []byte) []byte {
			key := string(fixedText.FindSubmatch(found)[1])
			if _, known := p.texts[key]; !known {
				return found // fails when the page is executed, by its name
			}
			return []byte(template.HTMLEscapeString(p.Text(key)))
		})
		if _, err := t.New(name).Parse(string(source)); err != nil {
			return nil, fmt.Errorf("web: %w", err)
		}
	}
	return t, nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// render writes one page. When it cannot, the customer has already been
// answered with a bare 500, and the error is for the log only.
func (p *Pages) render(w http.ResponseWriter, status int, name, csp, problem string, v any) error {
	buffer := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buffer)
	buffer.Reset()

	data := struct {
		frame
		ID      string
		Problem string
		V       any
	}{p.frame, name + "_page", problem, v}
	if err := p.templates[name].Execute(buffer, data); err != nil {
		p.headers(w.Header(), cspBase+"'none'")
		w.WriteHeader(http.StatusInternalServerError)
		fmt.Fprintf(w, "<!doctype html><title>%[1]s</title><p id=\"error_page\">%[1]s", template.HTMLEscapeString(p.Text("error.internal")))
		return fmt.Errorf("web: %s: %w", name, err)
	}
	p.headers(w.Header(), csp)
	w.Header().Set("Content-Length", strconv.Itoa(buffer.Len()))
	w.WriteHeader(status)
	if _, err := buffer.WriteTo(w); err != nil {
		return fmt.Errorf("web: %s: %w", name, err)
	}
	return nil
}

// Text is a text of the catalogue, for problems and errors that a caller words.
// Values come in pairs, a placeholder's name and what stands for it.
func (p *Pages) Text(key string, values ...string) string {
	text, known := p.texts[key]
	if !known {
		return key
	}
	return p.fill(text, values, clean)
}

// fill puts values for the placeholders; {bank} is always the brand's name.
func (p *Pages) fill(text string, values []string, each func(string) string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	pairs := []string{"{bank}", each(p.brand.Name)}
	for i := 0; i+1 < len(values); i += 2 {
		pairs = append(pairs, "{"+values[i]+"}", each(values[i+1]))
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (p *Pages) functions() template.FuncMap {
	text := func(key string, values []string) (string, []string, error) {
		text, known := p.texts[key]
		if !known || len(values)%2 != 0 {
			return "", nil, fmt.Errorf("text %q", key)
		}
		return text, values, nil
	}
	return template.FuncMap{
		// t is a text; rich is one in which each value is set off as a name of
		// its own, so that its direction does not disturb the sentence's.
		"t": func(key string, values ...string) (string, error) {
			text, values, err := text(key, values)
			return p.fill(text, values, clean), err
		},
		"rich": func(key string, values ...string) (template.HTML, error) {
			text, values, err := text(key, values)
			return template.HTML(p.fill(template.HTMLEscapeString(text), values, func(v string) string {
				return "<bdi>" + template.HTMLEscapeString(clean(v)) + "</bdi>"
			})), err
		},
		"clean": clean,
		"date": func(when any) (string, error) {
			switch when := when.(type) {
			case time.Time:
				return p.date(when), nil
			case *time.Time:
				return p.date(*when), nil
			}
			return "", fmt.Errorf("no date: %T", when)
		},
		"clock":        func(when time.Time) string { return when.Format("15:04") },
		"wholeMinutes": func(d time.Duration) int { return int(d / time.Minute) },
		"seconds":      func(d time.Duration) int { return int(d / time.Second) },
		"href":         href,
		"ours": func(link string) string {
			if !localPath(link) {
				return ""
			}
			return link
		},
		"host":     host,
		"monogram": monogram,
		"group":    group,
		"number":   func(i int) int { return i + 1 },
		"count":    func(rows []Granted) string { return strconv.Itoa(len(rows)) },
		"row":      func(over bool, g Granted) row { return row{g, over} },
		"action": func(path string) (string, error) {
			if path != "" && !localPath(path) {
				return "", errors.New("a form's action must be a path of this server")
			}
			return path, nil
		},
		"postback": func(uri string) (string, error) {
			if strings.HasPrefix(uri, "/") || href(uri) == "" {
				return "", errors.New("form_post needs an https redirect URI")
			}
			return uri, nil
		},
		"png": func(b []byte) (template.URL, error) {
			if !isPNG(b) {
				return "", errors.New("not a PNG")
			}
			return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b)), nil
		},
		"textFile": func(lines []string) template.URL {
			return template.URL("data:text/plain;charset=utf-8," + url.PathEscape(strings.Join(lines, "\r\n")+"\r\n"))
		},
		"otpauth": func(uri string) template.URL {
			if !strings.HasPrefix(uri, "otpauth://") {
				return ""
			}
			return template.URL(uri)
		},
		"formPostScript": func() template.HTML { return "<script>" + formPostScript + "</script>" },
	}
}

// row is a line of the customer's list; an ended one says since when.
type row struct {
	Granted
	Over bool
}

// date is a day as people write it: 3 March 2027.
func (p *Pages) date(t time.Time) string {
	return p.Text("date",
		"day", strconv.Itoa(t.Day()),
		"month", p.texts["month."+strconv.Itoa(int(t.Month()))],
		"year", strconv.Itoa(t.Year()))
}

const longestText = 500

func clean(s string) string { return Tidy(s, longestText) }

// Tidy makes a text that somebody else wrote fit to be shown: invisible and
// direction-changing characters, with which a name can be made to look like
// another, are dropped, white space is folded, and what is longer than limit
// is cut, which shows.
func Tidy(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == utf8.RuneError, unicode.IsControl(r), unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			return -1
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "…"
	}
	return s
}

// monogram is the initials of the first two words.
func monogram(name string) string {
	var initials string
	for _, word := range strings.Fields(clean(name)) {
		if letter := firstLetter(word); letter != "" && utf8.RuneCountInString(initials) < 2 {
			initials += letter
		}
	}
	return initials
}

func firstLetter(s string) string {
	for _, r := range s {
		if unicode.IsLetter(r) || unicode.IsNumber(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return ""
}

// group sets a secret in blocks of four, for typing.
func group(secret string) string {
	var b strings.Builder
	n := 0
	for _, r := range clean(secret) {
		if r == ' ' {
			continue
		}
		if n > 0 && n%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
