package web

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/mail"
	"regexp"
	"strings"
)

// Brand is the institution that the pages speak for.
type Brand struct {
	Name    string
	Short   string // for the browser's tab and the icon; Name if empty
	Colour  string // #rrggbb; a quiet blue if empty
	LogoPNG []byte // at most one of the two; without, a monogram and Name are shown
	LogoSVG []byte
	Support string // shown at the foot of each page; a link if it is an address, number or https URL alone

	PrivacyURL string
	TermsURL   string

	// Language picks texts/<language>.json; "en" if empty.
	Language string
	// Texts replaces texts of the catalogue by their key, for an institution's
	// own wording or a language that is not built in.
	Texts map[string]string
}

const (
	defaultColour = "#1f4e79"
	largestLogo   = 256 << 10
)

var (
	hexColour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
	telephone = regexp.MustCompile(`^\+?[0-9][0-9 ()-]{4,24}$`)
)

// check reports all mistakes at once and fills in what may be left out.
func (b *Brand) check() error {
	var problems []error
	b.Name = clean(b.Name)
	if strings.Contains(b.Name+b.Short, "{{") {
		problems = append(problems, errors.New("name holds {{"))
	}
	if b.Name == "" {
		problems = append(problems, errors.New("name is empty"))
	}
	if b.Short = clean(b.Short); b.Short == "" {
		b.Short = b.Name
	}
	if b.Colour == "" {
		b.Colour = defaultColour
	}
	if !hexColour.MatchString(b.Colour) {
		problems = append(problems, fmt.Errorf("colour %q is not of the form #rrggbb", b.Colour))
	}
	if len(b.LogoPNG) > 0 && len(b.LogoSVG) > 0 {
		problems = append(problems, errors.New("two logos, a PNG and an SVG: give one"))
	}
	if len(b.LogoPNG) > largestLogo || len(b.LogoSVG) > largestLogo {
		problems = append(problems, fmt.Errorf("logo is larger than %d KiB", largestLogo>>10))
	}
	if len(b.LogoPNG) > 0 && !isPNG(b.LogoPNG) {
		problems = append(problems, errors.New("logo is not a PNG"))
	}
	if len(b.LogoSVG) > 0 && !bytes.Contains(b.LogoSVG, []byte("<svg")) {
		problems = append(problems, errors.New("logo is not an SVG"))
	}
	for _, u := range []struct{ name, url string }{{"privacy", b.PrivacyURL}, {"terms", b.TermsURL}} {
		if u.url != "" && href(u.url) == "" {
			problems = append(problems, fmt.Errorf("%s URL %q is neither https nor a path of this server", u.name, u.url))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("web: brand: %w", err)
	}
	return nil
}

// supportLink turns a lone mail address, telephone number or URL into a link.
// template.URL, since html/template knows no tel:; each branch has checked what
// it lets through.
func supportLink(support string) template.URL {
	if telephone.MatchString(support) {
		keep := func(r rune) rune {
			if r == '+' || ('0' <= r && r <= '9') {
				return r
			}
			return -1
		}
		return template.URL("tel:" + strings.Map(keep, support))
	}
	if a, err := mail.ParseAddress(support); err == nil && a.Address == support && !strings.ContainsAny(support, `"<>?&% `) {
		return template.URL("mailto:" + support)
	}
	if strings.HasPrefix(support, "https://") {
		return template.URL(href(support))
	}
	return ""
}

// rgb is a colour with channels from 0 to 1.
type rgb [3]float64

// The backgrounds of style.css that leave the brand's colour the least contrast
// (--page in the light scheme, --surface in the dark one), and the two colours
// that a label on the brand's colour may have.
var (
	lightest = mustColour("#f3f5f7")
	darkest  = mustColour("#18202a")
	white    = mustColour("#ffffff")
	black    = mustColour("#000000")
)

// palette is the brand's part of the style sheet. One colour becomes three for
// each scheme: fill (behind a button's label; in the dark, light enough to be
// seen), the label's colour, and ink (links, focus, ticks), which has the
// contrast that WCAG asks of text.
func palette(colour string) string {
	c := mustColour(colour)
	scheme := func(fill, ink rgb) string {
		return fmt.Sprintf("--fill:%s;--on-fill:%s;--ink:%s", fill, readable(fill), ink)
	}
	light := scheme(c, towards(c, black, lightest, 4.5))
	dark := scheme(towards(c, white, darkest, 3), towards(c, white, darkest, 7))
	return fmt.Sprintf(":root{%s}\n@media (prefers-color-scheme:dark){:root{%s}}\n", light, dark)
}

// readable picks the label's colour: one of the two always has 4.58:1 or more.
func readable(background rgb) rgb {
	if contrast(background, white) >= contrast(background, black) {
		return white
	}
	return black
}

// towards moves c to target until it has the wanted contrast with background.
func towards(c, target, background rgb, want float64) rgb {
	for step := 0; step < 50 && contrast(c, background) < want; step++ {
		for i := range c {
			c[i] += (target[i] - c[i]) * 0.08
		}
		c = c.rounded()
	}
	return c
}

func contrast(a, b rgb) float64 {
	l, m := a.luminance(), b.luminance()
	return (max(l, m) + 0.05) / (min(l, m) + 0.05)
}

// luminance is WCAG 2.2's relative luminance.
func (c rgb) luminance() float64 {
	linear := func(v float64) float64 {
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}

func (c rgb) rounded() rgb {
	for i := range c {
		c[i] = math.Round(c[i]*255) / 255
	}
	return c
}

func (c rgb) String() string {
	return fmt.Sprintf("#%02x%02x%02x", int(math.Round(c[0]*255)), int(math.Round(c[1]*255)), int(math.Round(c[2]*255)))
}

// mustColour reads #rrggbb that was checked before.
func mustColour(s string) rgb {
	b, err := hex.DecodeString(strings.TrimPrefix(s, "#"))
	if err != nil || len(b) != 3 {
		panic("web: not a colour: " + s)
	}
	return rgb{float64(b[0]) / 255, float64(b[1]) / 255, float64(b[2]) / 255}
}

// icon is the browser tab's picture: the institution's initial on its colour.
func icon(b Brand) []byte {
	fill := mustColour(b.Colour)
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">`+
		`<rect width="64" height="64" rx="14" fill="%s"/>`+
		`<text x="32" y="45" text-anchor="middle" font-family="system-ui,sans-serif" font-size="38" font-weight="600" fill="%s">%s</text></svg>`,
		fill, readable(fill), template.HTMLEscapeString(firstLetter(b.Short)))
}

func isPNG(b []byte) bool { return bytes.HasPrefix(b, []byte("\x89PNG\r\n\x1a\n")) }
