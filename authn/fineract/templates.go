package fineract

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/cbroglie/mustache"
	"go.uber.org/zap"
)

// longestValue is how much of what a customer calls themselves goes into a message.
const longestValue = 200 // characters

// Dates in messages.
const (
	dateLayout = "02.01.2006"
	timeLayout = "15:04:05"
)

// values are the variables of templates.
func (c *call) values(code string, life time.Duration, now time.Time) map[string]string {
	p, asked, ends := &c.profile, now.In(c.api.Zone), now.Add(life).In(c.api.Zone)
	given, family := p.GivenName, p.FamilyName
	if given == "" && family == "" {
		given, family, _ = strings.Cut(p.Name, " ")
	}
	v := map[string]string{
		"username": p.Username, "email": p.Email, "firstname": given, "lastname": family, "mobileno": p.PhoneNumber,
	}
	for name, value := range v {
		v[name] = shown(value)
	}
	v["token"], v["tokenlivetime"] = code, strconv.Itoa(int(life.Seconds()))
	v["requestdate"], v["requesttime"] = asked.Format(dateLayout), asked.Format(timeLayout)
	v["expiredate"], v["expiretime"] = ends.Format(dateLayout), ends.Format(timeLayout)
	return v
}

// shown is a customer's own text as a message may have it: one line, and short.
func shown(s string) string {
	s = oneLine(s)
	if r := []rune(s); len(r) > longestValue {
		s = string(r[:longestValue])
	}
	return s
}

// oneLine takes out what could begin another line or header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

var errPartial = errors.New("fineract: templates have no partials")

type noPartials struct{}

func (noPartials) Get(string) (string, error) { return "", errPartial }

// parse reads a Mustache template. It is for plain text, so nothing is escaped as for HTML; and it is parsed before any value
// is put in, so that what a customer calls themselves is never read as one.
func parse(text string) (*mustache.Template, error) {
	t, err := mustache.ParseStringPartialsRaw(text, noPartials{}, true)
	if err == nil && hasPartials(t.Tags()) {
		err = errPartial
	}
	return t, err
}

func hasPartials(tags []mustache.Tag) bool {
	for _, tag := range tags {
		switch tag.Type() {
		case mustache.Partial:
			return true
		case mustache.Section, mustache.InvertedSection:
			if hasPartials(tag.Tags()) {
				return true
			}
		}
	}
	return false
}

func render(text string, values map[string]string) (string, error) {
	t, err := parse(text)
	if err != nil {
		return "", err
	}
	return t.Render(values)
}

// rendered is a template of the configuration with values; its default if it does not work, so that a customer gets the code.
func (c *call) rendered(cfg configuration, name string, values map[string]string) string {
	text, err := render(cfg.text(name), values)
	if err != nil {
		c.api.Log.Error("template not used", zap.String("key", name), zap.Error(err))
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		text, _ = render(keys[i].initial, values)
	}
	return text
}
