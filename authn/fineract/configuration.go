package fineract

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	strict "github.com/go-jose/go-jose/v4/json"
	"go.uber.org/zap"
)

// Keys of the configuration.
const (
	emailEnable           = "otp-delivery-email-enable"
	emailSubject          = "otp-delivery-email-subject"
	emailBody             = "otp-delivery-email-body"
	smsEnable             = "otp-delivery-sms-enable"
	smsProvider           = "otp-delivery-sms-provider"
	smsText               = "otp-delivery-sms-text"
	otpLiveTime           = "otp-token-live-time"
	otpLength             = "otp-token-length"
	tokenLiveTime         = "access-token-live-time"
	tokenLiveTimeExtended = "access-token-live-time-extended"
)

type kind int

const (
	boolean kind = iota
	template
	integer
)

const month = 31 * 24 * 60 * 60 // seconds

type key struct {
	name     string
	kind     kind
	initial  string
	min, max int
}

// keys are in the order in which Fineract looks at them. It has no limits but 0; ours are that a code lives five minutes at
// most, is not so short that it could be guessed, and that a token ends some day.
var keys = []key{
	{emailEnable, boolean, "true", 0, 0},
	{smsEnable, boolean, "false", 0, 0},
	{emailSubject, template, "Fineract Two-Factor Authentication Token", 0, 0},
	{emailBody, template, "Hello {{username}}.\nYour OTP login token is {{token}}.", 0, 0},
	{smsText, template, "Your authentication token for Fineract is {{token}}.", 0, 0},
	{smsProvider, integer, "1", 1, 1<<31 - 1},
	{otpLiveTime, integer, "300", 1, int(longestCode / time.Second)},
	{otpLength, integer, "5", 4, 32},
	{tokenLiveTime, integer, "86400", 1, month},
	{tokenLiveTimeExtended, integer, "604800", 1, month},
}

const longestText = 1000 // characters of a template

// configuration is that of a tenant, all keys there.
type configuration map[string]string

func (c *call) configuration() configuration {
	cfg := configuration{}
	for _, k := range keys {
		cfg[k.name] = k.initial
	}
	maps.Copy(cfg, c.visitor.Configuration)
	return cfg
}

func (cfg configuration) on(name string) bool     { return cfg[name] == "true" }
func (cfg configuration) text(name string) string { return cfg[name] }
func (cfg configuration) number(name string) int {
	n, _ := strconv.Atoi(cfg[name]) // what is stored was checked
	return n
}
func (cfg configuration) duration(name string) time.Duration {
	return time.Duration(cfg.number(name)) * time.Second
}

// value is a key's value as JSON has it.
func (k kind) value(text string) any {
	switch k {
	case boolean:
		return text == "true"
	case integer:
		n, _ := strconv.Atoi(text)
		return n
	}
	return text
}

// showConfiguration answers GET /twofactor/configure. Fineract asks for READ_TWOFACTOR_CONFIG, which its tables do not have:
// either name does.
func (c *call) showConfiguration() (any, error) {
	if !c.hasRole("ADMIN") && !c.granted("READ_TWOFACTOR_CONFIGURATION", "READ_TWOFACTOR_CONFIG", "ALL_FUNCTIONS_READ", "ALL_FUNCTIONS") {
		return nil, notAuthorized("User has no authority to READ twofactor_configs")
	}
	cfg, all := c.configuration(), map[string]any{}
	for _, k := range keys {
		all[k.name] = k.kind.value(cfg[k.name])
	}
	return all, nil
}

// configure answers PUT /twofactor/configure with what has changed.
func (c *call) configure() (any, error) {
	if !c.hasRole("ADMIN") && !c.granted("UPDATE_TWOFACTOR_CONFIGURATION", "ALL_FUNCTIONS") {
		return nil, notAuthorized("User has no authority to: UPDATE_TWOFACTOR_CONFIGURATION")
	}
	if err := c.json(); err != nil {
		return nil, err
	}
	members, err := c.object()
	if err != nil {
		return nil, err
	}
	wanted, err := readConfiguration(members)
	if err != nil {
		return nil, err
	}
	cfg, changes, answer := c.configuration(), map[string]string{}, map[string]any{}
	for _, k := range keys {
		if value, ok := wanted[k.name]; ok && value != cfg[k.name] {
			changes[k.name], answer[k.name] = value, k.kind.value(value)
		}
	}
	if len(changes) > 0 {
		names := slices.Sorted(maps.Keys(changes))
		if err := c.api.DB.ConfigureFineract(c.r.Context(), c.api.tenant, changes, c.event("fineract.configured", map[string]any{"keys": names})); err != nil {
			return nil, err
		}
		c.api.Log.Info("fineract.configured", zap.Stringer("customer", c.visitor.Customer.ID), zap.Strings("keys", names))
	}
	return map[string]any{"changes": answer}, nil
}

// resource is the configuration's name in errors.
const resource = "TWOFACTOR_CONFIGURATION"

// readConfiguration reads the values of a change as they are stored, and reports all mistakes at once.
func readConfiguration(members map[string]strict.RawMessage) (map[string]string, error) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	if err := unsupported(members, names...); err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, invalid(parameter("validation.msg."+resource+".no.parameters.for.update", "No parameters passed for update.", "id"))
	}
	wanted := map[string]string{}
	var wrong []parameterError
	for _, k := range keys {
		member, ok := members[k.name]
		if !ok {
			continue
		}
		value, ok := text(member)
		value = strings.TrimSpace(value)
		if k.kind == boolean {
			value = strings.ToLower(value)
		}
		if e := k.kind.check(k.name, value, ok, k.min, k.max); e != nil {
			if e.UserMessageGlobalisationCode == notAnInteger { // Fineract looks no further
				return nil, invalid(*e)
			}
			wrong = append(wrong, *e)
			continue
		}
		if k.kind == integer {
			value = strconv.Itoa(k.kind.value(value).(int)) // one spelling
		}
		wanted[k.name] = value
	}
	if len(wrong) > 0 {
		return nil, invalid(wrong...)
	}
	return wanted, nil
}

const notAnInteger = "validation.msg.invalid.integer"

// check returns what is wrong with a value, nil for nothing.
func (k kind) check(name, value string, there bool, least, most int) *parameterError {
	fault := func(code, text string, args ...any) *parameterError {
		e := parameter("validation.msg."+resource+"."+name+"."+code, "The parameter `"+name+"` "+text, name, args...)
		return &e
	}
	switch {
	case !there, k != boolean && value == "":
		e := mandatory(resource, name)
		return &e
	case k == boolean:
		if value != "true" && value != "false" {
			return fault("must.be.true.or.false", "must be set as true or false.")
		}
	case k == template:
		if utf8.RuneCountInString(value) > longestText {
			return fault("exceeds.max.length", "exceeds max length of "+strconv.Itoa(longestText)+".", longestText)
		}
		if _, err := parse(value); err != nil {
			return fault("invalid.template", "has an invalid value.") // ours: Fineract finds out when it sends
		}
	case k == integer:
		n, err := strconv.ParseInt(value, 10, 32)
		switch {
		case err != nil:
			e := parameter(notAnInteger, "The parameter `"+name+"` has a value which is invalid integer.", name)
			return &e
		case n < 1:
			return fault("not.greater.than.zero", "must be greater than 0.", n, 0)
		case int(n) < least: // this limit and the next are ours
			return fault("is.less.than.min", "must be greater than the minimum value "+strconv.Itoa(least), n, least)
		case int(n) > most:
			return fault("is.greater.than.max", "must be less than the maximum value "+strconv.Itoa(most), n, most)
		}
	}
	return nil
}

func mandatory(resource, name string) parameterError {
	return parameter("validation.msg."+resource+"."+name+".cannot.be.blank", "The parameter `"+name+"` is mandatory.", name)
}

// unsupported refuses members that are not among the known.
func unsupported(members map[string]strict.RawMessage, known ...string) error {
	var wrong []parameterError
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(known, name) {
			wrong = append(wrong, parameter("error.msg.parameter.unsupported", "The parameter "+name+" is not supported.", name, name))
		}
	}
	if len(wrong) > 0 {
		return invalid(wrong...)
	}
	return nil
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }
