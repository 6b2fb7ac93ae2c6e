package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf8"

	strict "github.com/go-jose/go-jose/v4/json"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/storage"
)

// longestLine bounds a line of a file, in bytes.
const longestLine = 1 << 20

// importLine is a customer as a file has one: the claims of OpenID Connect Core §5.1, and what is ours.
type importLine struct {
	storage.Profile
	PasswordHash     string          `json:"password_hash"`
	FineractClientID *int64          `json:"fineract_client_id"`
	Roles            []string        `json:"roles"`
	Permissions      []string        `json:"permissions"`
	Accounts         []importAccount `json:"accounts"`
}

type importAccount struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Number   string `json:"number"`
	Currency string `json:"currency"`
}

var (
	errImportJSON   = errors.New("is not a JSON object with the members of docs/customers.md, each once")
	errImportText   = errors.New("is not UTF-8")
	errImportLong   = errors.New("is longer than a megabyte")
	errImportHash   = errors.New("has no password_hash: plain passwords are not imported")
	errImportClient = errors.New("fineract_client_id is not a positive number")
)

func (l *importLine) customer() (n authn.NewCustomer, err error) {
	switch {
	case l.PasswordHash == "":
		return n, errImportHash
	case l.FineractClientID != nil && *l.FineractClientID <= 0:
		return n, errImportClient
	}
	n = authn.NewCustomer{Profile: l.Profile, PasswordHash: l.PasswordHash, FineractClientID: l.FineractClientID, Roles: l.Roles, Permissions: l.Permissions}
	for _, a := range l.Accounts {
		n.Accounts = append(n.Accounts, storage.Account(a))
	}
	return n, nil
}

// readLines reads JSON lines: one object each; empty lines are skipped.
func readLines(in io.Reader) iter.Seq[imported] {
	return func(yield func(imported) bool) {
		scanner := bufio.NewScanner(in)
		scanner.Buffer(make([]byte, 64<<10), longestLine)
		number := 0
		for scanner.Scan() {
			number++
			text := bytes.TrimSpace(scanner.Bytes())
			if number == 1 {
				text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // as some editors begin a file
			}
			if len(text) == 0 {
				continue
			}
			l := imported{line: number}
			l.customer, l.err = parseLine(text)
			if !yield(l) {
				return
			}
		}
		if err := scanner.Err(); err != nil {
			if errors.Is(err, bufio.ErrTooLong) {
				err = errImportLong
			}
			yield(imported{line: number + 1, err: fmt.Errorf("%w: the rest of the file is not read", err)})
		}
	}
}

// parseLine reads one object strictly: a member that we do not know, nobody would ever see.
func parseLine(text []byte) (authn.NewCustomer, error) {
	if !utf8.Valid(text) {
		return authn.NewCustomer{}, errImportText
	}
	var once map[string]any
	if err := strict.Unmarshal(text, &once); err != nil { // which refuses members that stand there twice
		return authn.NewCustomer{}, errImportJSON
	}
	l := importLine{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return authn.NewCustomer{}, errImportJSON
	}
	return l.customer()
}

// importColumns are those of a CSV file, besides attribute:NAME.
var importColumns = map[string]func(l *importLine, value string) error{
	"username":              text(func(l *importLine) *string { return &l.Username }),
	"password_hash":         text(func(l *importLine) *string { return &l.PasswordHash }),
	"name":                  text(func(l *importLine) *string { return &l.Name }),
	"given_name":            text(func(l *importLine) *string { return &l.GivenName }),
	"family_name":           text(func(l *importLine) *string { return &l.FamilyName }),
	"birthdate":             text(func(l *importLine) *string { return &l.Birthdate }),
	"locale":                text(func(l *importLine) *string { return &l.Locale }),
	"email":                 text(func(l *importLine) *string { return &l.Email }),
	"phone_number":          text(func(l *importLine) *string { return &l.PhoneNumber }),
	"email_verified":        truth(func(l *importLine) *bool { return &l.EmailVerified }),
	"phone_number_verified": truth(func(l *importLine) *bool { return &l.PhoneNumberVerified }),
	"roles":                 func(l *importLine, value string) error { l.Roles = strings.Fields(value); return nil },
	"permissions":           func(l *importLine, value string) error { l.Permissions = strings.Fields(value); return nil },
	"fineract_client_id": func(l *importLine, value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if l.FineractClientID = &n; err != nil {
			return errImportClient
		}
		return nil
	},
	"accounts": func(l *importLine, value string) error {
		for _, text := range strings.Split(value, ";") {
			var a account
			if a.UnmarshalText([]byte(strings.TrimSpace(text))) != nil {
				return errors.New("accounts are not ID:NAME:NUMBER:CURRENCY, with ; between them")
			}
			l.Accounts = append(l.Accounts, importAccount(a))
		}
		return nil
	},
}

func text(field func(*importLine) *string) func(*importLine, string) error {
	return func(l *importLine, value string) error { *field(l) = value; return nil }
}

func truth(field func(*importLine) *bool) func(*importLine, string) error {
	return func(l *importLine, value string) (err error) {
		if *field(l), err = strconv.ParseBool(value); err != nil {
			err = errors.New("a column that says what is verified has true or false")
		}
		return err
	}
}

const attributeColumn = "attribute:"

// readCSV reads comma-separated values (RFC 4180) whose first line names the columns. An empty value is none.
func readCSV(in io.Reader) iter.Seq[imported] {
	return func(yield func(imported) bool) {
		r := csv.NewReader(in)
		names, err := r.Read()
		if err == nil {
			names[0] = strings.TrimPrefix(names[0], "\xef\xbb\xbf")
			err = checkColumns(names)
		}
		if err != nil {
			yield(imported{line: 1, err: fmt.Errorf("the first line does not name columns: %w", err)})
			return
		}
		for {
			values, err := r.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			l := imported{}
			var wrong *csv.ParseError
			switch {
			case err == nil:
				l.line, _ = r.FieldPos(0)
				l.customer, l.err = parseValues(names, values)
			case errors.As(err, &wrong):
				l.line, l.err = wrong.StartLine, fmt.Errorf("is not CSV as the first line says: %w", wrong.Err)
			default:
				yield(imported{err: fmt.Errorf("the file cannot be read on: %w", err)})
				return
			}
			if !yield(l) {
				return
			}
		}
	}
}

func checkColumns(names []string) error {
	seen := map[string]bool{}
	for _, name := range names {
		if importColumns[name] == nil && !strings.HasPrefix(name, attributeColumn) || seen[name] {
			return fmt.Errorf("there is no column %q, or it is there twice", name)
		}
		seen[name] = true
	}
	if !seen["username"] || !seen["password_hash"] {
		return errors.New("username and password_hash must be among them")
	}
	return nil
}

func parseValues(names, values []string) (authn.NewCustomer, error) {
	l := importLine{}
	for i, name := range names {
		if values[i] == "" {
			continue
		}
		if !utf8.ValidString(values[i]) {
			return authn.NewCustomer{}, errImportText
		}
		if attribute, ok := strings.CutPrefix(name, attributeColumn); ok {
			if l.Attributes == nil {
				l.Attributes = map[string]string{}
			}
			l.Attributes[attribute] = values[i]
			continue
		}
		if err := importColumns[name](&l, values[i]); err != nil {
			return authn.NewCustomer{}, err
		}
	}
	return l.customer()
}
