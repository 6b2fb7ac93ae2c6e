package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const importHash = "$2a$04$abcdefghijklmnopqrstuuMKsPOT7hBJkIoNRmkOjvVLkM7vGqVzG" // of the form; no login is tried with it

func TestImport_ReadsLines(t *testing.T) {
	t.Parallel()
	good := `{"username": "alice", "password_hash": "` + importHash + `"}`
	for name, c := range map[string]struct {
		csv  bool
		file string
		want string // line numbers; with what is wrong
	}{
		"a line each":           {file: good + "\n" + good + "\n", want: "1 2"},
		"no line end":           {file: good, want: "1"},
		"empty lines, CRLF":     {file: "\r\n" + good + "\r\n\r\n" + good, want: "2 4"},
		"a mark at the start":   {file: "\xef\xbb\xbf" + good, want: "1"},
		"nothing":               {file: "", want: ""},
		"no JSON":               {file: good + "\nalice\n" + good, want: "1 2(is not a JSON object) 3"},
		"a list":                {file: "[" + good + "]", want: "1(is not a JSON object)"},
		"two on a line":         {file: good + good, want: "1(is not a JSON object)"},
		"an unknown member":     {file: `{"username": "a", "password_hash": "x", "shoe_size": 43}`, want: "1(is not a JSON object)"},
		"a plain password":      {file: `{"username": "a", "password": "three grey herons"}`, want: "1(is not a JSON object)"},
		"a member twice":        {file: `{"username": "a", "username": "b", "password_hash": "x"}`, want: "1(is not a JSON object)"},
		"another kind":          {file: `{"username": 7, "password_hash": "x"}`, want: "1(is not a JSON object)"},
		"no hash":               {file: `{"username": "a"}`, want: "1(has no password_hash)"},
		"a client below one":    {file: `{"username": "a", "password_hash": "x", "fineract_client_id": 0}`, want: "1(is not a positive number)"},
		"no UTF-8":              {file: "{\"username\": \"a\", \"name\": \"Andr\xe9\", \"password_hash\": \"x\"}", want: "1(is not UTF-8)"},
		"a line of two MB":      {file: good + "\n" + strings.Repeat("x", 2<<20) + "\n" + good, want: "1 2(longer than a megabyte)"},
		"CSV":                   {csv: true, file: "username,password_hash,attribute:country\nalice,x,KE\nbob,y,\n", want: "2 3"},
		"CSV, lines in quotes":  {csv: true, file: "username,password_hash,name\nalice,x,\"Alice\nDoe\"\nbob,,\n", want: "2 4(has no password_hash)"},
		"CSV, BOM and CRLF":     {csv: true, file: "\xef\xbb\xbfusername,password_hash\r\nalice,x\r\n", want: "2"},
		"CSV, a column missing": {csv: true, file: "username\nalice\n", want: "1(the first line does not name columns)"},
		"CSV, an unknown one":   {csv: true, file: "username,password_hash,password\na,x,y\n", want: "1(the first line does not name columns)"},
		"CSV, one twice":        {csv: true, file: "username,password_hash,username\na,x,y\n", want: "1(the first line does not name columns)"},
		"CSV, nothing":          {csv: true, file: "", want: "1(the first line does not name columns)"},
		"CSV, too few values":   {csv: true, file: "username,password_hash\nalice\nbob,x\n", want: "2(is not CSV as the first line says) 3"},
		"CSV, a quote inside":   {csv: true, file: "username,password_hash\nal\"ice,x\nbob,x\n", want: "2(is not CSV as the first line says) 3"},
		"CSV, no truth":         {csv: true, file: "username,password_hash,email_verified\nalice,x,perhaps\n", want: "2(has true or false)"},
		"CSV, no number":        {csv: true, file: "username,password_hash,fineract_client_id\nalice,x,1e3\n", want: "2(is not a positive number)"},
		"CSV, no account":       {csv: true, file: "username,password_hash,accounts\nalice,x,1001\n", want: "2(accounts are not)"},
		"CSV, no UTF-8":         {csv: true, file: "username,password_hash,name\nalice,x,Andr\xe9\n", want: "2(is not UTF-8)"},
	} {
		t.Run(name, func(t *testing.T) {
			read := readLines
			if c.csv {
				read = readCSV
			}
			var got []string
			for l := range read(strings.NewReader(c.file)) {
				got = append(got, strconv.Itoa(l.line))
				if l.err != nil {
					got[len(got)-1] += "(" + l.err.Error() + ")"
				}
			}
			wants := regexp.MustCompile(`\d+(\([^)]*\))?`).FindAllString(c.want, -1)
			if len(got) != len(wants) {
				t.Fatalf("read %q, want %q", got, c.want)
			}
			for i, want := range wants {
				number, fault, _ := strings.Cut(strings.TrimSuffix(want, ")"), "(")
				if gotNumber, gotFault, _ := strings.Cut(got[i], "("); gotNumber != number || (fault == "") != (gotFault == "") || !strings.Contains(gotFault, fault) {
					t.Errorf("line %q, want %q", got[i], want)
				}
			}
		})
	}
}

// Two forms of one customer.
func TestImport_ReadsAllOfACustomer(t *testing.T) {
	t.Parallel()
	lines := `{"username": "alice", "password_hash": "h", "name": "Alice Doe", "email": "a@heron.example", "email_verified": true, "phone_number": "+254712345678",
"fineract_client_id": 7, "roles": ["USER", "ADMIN"], "permissions": ["BYPASS_TWOFACTOR"], "attributes": {"country": "KE"}, "accounts": [{"id": "12", "name": "Savings", "number": "0012", "currency": "KES"}]}`
	table := "username,password_hash,name,email,email_verified,phone_number,fineract_client_id,roles,permissions,attribute:country,accounts\n" +
		"alice,h,Alice Doe,a@heron.example,true,+254712345678,7,USER ADMIN,BYPASS_TWOFACTOR,KE,12:Savings:0012:kes\n"
	var all []string
	for l := range readLines(strings.NewReader(strings.ReplaceAll(lines, "\n", " "))) {
		all = append(all, fmt.Sprintf("%+v %d %v", l.customer, *l.customer.FineractClientID, l.err))
	}
	for l := range readCSV(strings.NewReader(table)) {
		all = append(all, fmt.Sprintf("%+v %d %v", l.customer, *l.customer.FineractClientID, l.err))
	}
	address := regexp.MustCompile(`0x[0-9a-f]+`)
	if len(all) != 2 || address.ReplaceAllString(all[0], "") != address.ReplaceAllString(all[1], "") || !strings.Contains(all[0], "KES") {
		t.Errorf("read\n%s", strings.Join(all, "\n"))
	}
}

// What staff do with customers, as they do it: another process each time.
func TestCustomerCommands(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	customer := func(args ...string) []string { return append([]string{"customer"}, args...) }
	const password = "three grey herons over water\n"
	o.says(t, true, `created [0-9a-f-]{36}`, password, customer("create", "--username", "alice", "--name", "Alice Doe", "--email", "alice@heron.example", "--phone", "+254712345678", "--phone-verified",
		"--fineract-client-id", "7", "--attribute", "country=KE", "--permission", "BYPASS_TWOFACTOR", "--account", "12:Savings:000000012:kes", "--password-file", "-")...)
	for name, c := range map[string]struct {
		want string
		args []string
	}{
		"a name twice":        {`has a customer "ALICE" already`, []string{"--username", "ALICE"}},
		"a client twice":      {`client 7 of Fineract has as many customers`, []string{"--username", "bob", "--fineract-client-id", "7"}},
		"a role of staff":     {`a role is USER, ADMIN or SUPPORT`, []string{"--username", "bob", "--role", "Super user"}},
		"no permission":       {`a permission is a name`, []string{"--username", "bob", "--permission", "all functions"}},
		"no attribute":        {`is not a name and a value`, []string{"--username", "bob", "--attribute", "country"}},
		"an attribute's name": {`an attribute has a name`, []string{"--username", "bob", "--attribute", "Country=KE"}},
		"no email address":    {`not an email address`, []string{"--username", "bob", "--email", "nowhere"}},
		"a national number":   {`with its country code`, []string{"--username", "bob", "--phone", "0712345678"}},
		"no account":          {`ID:NAME:NUMBER:CURRENCY`, []string{"--username", "bob", "--account", "12"}},
		"no claims":           {`claims`, []string{"--username", "bob", "--claims", "nowhere.yaml"}},
		"no user name":        {`user name`, []string{"--username", " "}},
	} {
		t.Run(name, func(t *testing.T) {
			o.says(t, false, c.want, password, customer(append([]string{"create", "--password-file", "-"}, c.args...)...)...)
		})
	}
	shown := o.run(t, true, "", customer("show", "alice")...)
	for _, want := range []string{`tenant +default`, `user name +a•••`, `name +A••• D•••`, `email +\S*@`, `phone +.*78 \(verified\)`, `fineract client +7`, `roles +USER`, `permissions +BYPASS_TWOFACTOR`, `attribute +country=KE`, `account +•••• 0012 KES`, `state +active`} {
		if !regexp.MustCompile(want).MatchString(shown) {
			t.Errorf("show says\n%s, not %s", shown, want)
		}
	}
	for _, secret := range []string{"alice@", "Doe", "+254712345678", "712345", "000000012"} {
		if strings.Contains(shown, secret) || strings.Contains(o.run(t, true, "", customer("list")...), secret) {
			t.Errorf("show or list tells %q", secret)
		}
	}
	o.says(t, true, `^$`, "", customer("update", "alice", "--role", "USER", "--role", "ADMIN", "--attribute", "country=TZ", "--attribute", "client_type=firm", "--email", "new@heron.example", "--fineract-client-id", "8")...)
	o.says(t, true, `(?s)fineract client +8.*roles +USER ADMIN.*client_type=firm.*country=TZ`, "", customer("show", "alice")...)
	o.says(t, true, `^$`, "", customer("update", "alice", "--attribute", "client_type=", "--fineract-client-id", "0")...)
	if shown := o.run(t, true, "", customer("show", "alice")...); strings.Contains(shown, "client_type") || strings.Contains(shown, "fineract client") {
		t.Errorf("still there:\n%s", shown)
	}
	o.says(t, true, `^$`, "", customer("grant", "alice", "EXPORT_DATA")...)
	o.says(t, true, `^$`, "", customer("revoke", "alice", "BYPASS_TWOFACTOR")...)
	o.says(t, true, `permissions +EXPORT_DATA\n`, "", customer("show", "alice")...)
	for _, args := range [][]string{{"show", "nobody"}, {"update", "nobody", "--name", "N"}, {"grant", "nobody", "X"}, {"disable", "nobody"}, {"unlock", "nobody"}} {
		o.says(t, false, `has no customer "nobody"`, "", customer(args...)...)
	}
	o.says(t, false, `a role is`, "", customer("update", "alice", "--role", "TELLER")...)
	o.says(t, false, `a permission is`, "", customer("grant", "alice", "x")...)
	o.says(t, true, `^$`, "", customer("disable", "alice")...)
	o.says(t, true, `a••• .*disabled 20`, "", customer("list")...)
	o.says(t, true, `^$`, "", customer("enable", "alice")...)

	o.says(t, true, `(?s)invitation [0-9a-f-]{36} good until 20.*code [A-Z2-9]{4}-[A-Z2-9]{4}-[A-Z2-9]{4}\n`, "", customer("invite", "--fineract-client-id", "9", "--name", "Bob")...)
	sent := o.run(t, true, "", customer("invite", "--fineract-client-id", "9", "--email", "bob@heron.example", "--send", "email", "--page", "https://login.heron.example/invitation")...)
	if strings.Contains(sent, "code") || !strings.Contains(sent, "on its way") {
		t.Errorf("a code that is sent is told to somebody else: %s", sent)
	}
	for want, args := range map[string][]string{
		`needs page`:       {"--fineract-client-id", "9", "--send", "email", "--email", "b@heron.example"},
		`an address where`: {"--fineract-client-id", "9", "--send", "sms", "--page", "https://x.example"},
		`positive`:         {"--fineract-client-id", "0"},
		`missing flags`:    {"--name", "Bob"},
		`an email address`: {"--fineract-client-id", "9", "--email", "nowhere"},
		`must be one of`:   {"--fineract-client-id", "9", "--send", "pigeon"},
	} {
		o.says(t, false, want, "", customer(append([]string{"invite"}, args...)...)...)
	}
}

// A file goes in once, however often it is run, and what is wrong in it is told by line, without what stands there.
func TestImport_IsIdempotent(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	file := filepath.Join(o.dir, "customers.jsonl")
	write := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := func(name, more string) string {
		return `{"username": "` + name + `", "password_hash": "` + importHash + `"` + more + `}`
	}
	write(line("alice", `, "name": "Alice Doe", "email": "alice@heron.example", "email_verified": true, "fineract_client_id": 7`), line("secretname", `, "roles": ["KING"]`), `{`, line("bob", ""))
	o.says(t, false, `(?s)line 3 refused: is not a JSON object.*line 2 refused: a role is.*2 created, 0 updated, 0 skipped, 2 refused \(dry run`, "", "customer", "import", "--dry-run", file)
	out := o.run(t, false, "", "customer", "import", file)
	if !strings.Contains(out, "2 created, 0 updated, 0 skipped, 2 refused\n") || strings.Contains(out, "secretname") || strings.Contains(out, importHash) {
		t.Errorf("import says %s", out)
	}
	write(line("alice", `, "name": "Alice Roe", "email": "roe@heron.example", "fineract_client_id": 7, "roles": ["USER", "ADMIN"], "attributes": {"country": "KE"}`), line("bob", ""), line("carl", `, "fineract_client_id": 7`))
	o.says(t, false, `(?s)line 3 refused: the Fineract client has a customer already.*0 created, 0 updated, 2 skipped, 1 refused`, "", "customer", "import", file)
	o.says(t, true, `A••• D•••`, "", "customer", "show", "alice")
	o.says(t, false, `0 created, 2 updated, 0 skipped, 1 refused`, "", "customer", "import", "--update", file)
	o.says(t, true, `(?s)A••• R•••.*email +r\S+\n.*roles +USER ADMIN.*country=KE`, "", "customer", "show", "alice") // whose new address is not verified
	o.says(t, true, `1 created`, "username,password_hash\ncsv,"+importHash+"\n", "customer", "import", "--format", "csv", "-")
	o.says(t, false, `no such file`, "", "customer", "import", filepath.Join(o.dir, "nowhere"))
}

// A process that is killed leaves what it has stored; another run goes on there.
func TestImport_GoesOnAfterAKill(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	o.run(t, true, "", "migrate")
	const n = 6000
	var lines bytes.Buffer
	for i := range n {
		fmt.Fprintf(&lines, `{"username": "c%d", "password_hash": "%s", "fineract_client_id": %d}`+"\n", i, importHash, i+1)
	}
	file := filepath.Join(o.dir, "many.jsonl")
	if err := os.WriteFile(file, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var dsn string
	for _, v := range o.env {
		if value, ok := strings.CutPrefix(v, "DATABASE_URL="); ok {
			dsn = value
		}
	}
	db, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(t.Context())
	stored := func() (count int) {
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM customers`).Scan(&count); err != nil {
			t.Fatal(err)
		}
		return count
	}
	c := exec.Command(os.Args[0], "customer", "import", file)
	c.Env, c.Dir = o.env, o.dir
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); stored() < 400 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	c.Process.Kill()
	c.Wait()
	before := stored()
	if before < 400 || before == n || before%batchSize != 0 {
		t.Fatalf("%d are stored", before)
	}
	o.says(t, true, fmt.Sprintf(`%d created, 0 updated, %d skipped, 0 refused`, n-before, before), "", "customer", "import", file)
	if stored() != n {
		t.Errorf("%d are stored, want %d", stored(), n)
	}
}

// Who watches a long import sees where it is.
func TestImport_TellsItsProgress(t *testing.T) {
	t.Parallel()
	var progress, report bytes.Buffer
	r := &importRun{customerImport: &customerImport{}, report: &report, progress: &progress}
	r.line, r.created = 400, 399
	r.tell()
	if progress.String() != "line 400: 399 created, 0 updated, 0 skipped, 0 refused\n" {
		t.Errorf("told %q", progress.String())
	}
	if r.tell(); strings.Count(progress.String(), "\n") != 1 {
		t.Error("told twice at once")
	}
}
