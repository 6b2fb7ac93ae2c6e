package reach_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/reach"
)

// What reaches a browser, a push service and an institution is read by programs that nobody here wrote: http_ece, jose and
// standardwebhooks (npm).

// question is what the program is asked: one line.
type question struct {
	Reader string         `json:"reader"`
	Given  map[string]any `json:"given"`
}

// answer is what it says to it.
type answer struct {
	Read  any    `json:"read"`
	Error string `json:"error"`
}

// ask runs the program, or skips the test when its tools are missing.
func ask(t *testing.T, questions ...question) []answer {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			why := tool + " is missing: install nodejs and npm to have others read what is sent (Debian: apt-get install nodejs npm)"
			if os.Getenv("COUNTERSIGN_REQUIRE_CLIENTS") == "1" {
				t.Fatal(why)
			}
			t.Skip(why)
		}
	}
	folder := filepath.Join(t.TempDir(), "reach")
	if err := os.CopyFS(folder, os.DirFS("../conformance/independent/reach")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--no-audit", "--no-fund", "--silent")
	install.Dir = folder
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	var in, problems bytes.Buffer
	for _, q := range questions {
		line, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&in, "%s\n", line)
	}
	node := exec.CommandContext(ctx, "node", filepath.Join(folder, "read.mjs"))
	node.Stdin, node.Stderr = &in, &problems
	out, err := node.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.Bytes())
	}
	var answers []answer
	for line := range strings.Lines(string(out)) {
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions", len(answers), len(questions))
	}
	return answers
}

func TestOthersReadWhatIsSent(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: installs npm packages")
	}
	t.Parallel()
	service, hook, m := serve(t), serve(t), approval()
	b := subscribe(t, service.URL+"/push/abc")
	m.To.Browsers = []reach.Subscription{b.Subscription}
	if err := newWebPush(t, service.outbound(loopback), &forgotten{}).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	rotating := newWebhook(t, hook, secret, newer)
	if err := rotating.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	rotating.SetClock(func() time.Time { return time.Now().Add(-6 * time.Minute) })
	if err := rotating.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}

	pushed := service.one(t)
	push := func(auth []byte) question {
		return question{"push", map[string]any{
			"body": base64.StdEncoding.EncodeToString(pushed.body), "key": base64.RawURLEncoding.EncodeToString(b.key.Bytes()),
			"auth": base64.RawURLEncoding.EncodeToString(auth),
		}}
	}
	vapid := func(audience string) question {
		return question{"vapid", map[string]any{"authorization": pushed.header.Get("Authorization"), "audience": audience}}
	}
	webhook := func(p post, key, more string) question {
		headers := map[string]string{}
		for name := range p.header {
			headers[strings.ToLower(name)] = p.header.Get(name)
		}
		return question{"webhook", map[string]any{"secret": key, "headers": headers, "body": string(p.body) + more}}
	}
	fresh, old := hook.got()[0], hook.got()[1]
	stranger := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 24))
	answers := ask(t, push(b.auth), vapid(service.URL), webhook(fresh, secret, ""), webhook(fresh, newer, ""),
		push(make([]byte, 16)), vapid("https://push.example"), webhook(fresh, stranger, ""), webhook(fresh, secret, " "), webhook(old, secret, ""))
	for i, a := range answers {
		if (a.Error == "") != (i < 4) {
			t.Errorf("answer %d: %+v", i, a)
		}
	}

	text, _ := answers[0].Read.(string)
	var shown map[string]string
	if err := json.Unmarshal([]byte(text), &shown); err != nil || len(shown) != 2 || shown["title"] == "" || shown["body"] == "" {
		t.Errorf("the browser reads %q", text)
	}
	for _, identifies := range []string{m.About, m.To.ID.String(), "Meadow", "alice"} {
		if strings.Contains(text, identifies) {
			t.Errorf("the browser shows %q", identifies)
		}
	}
	if claims, _ := answers[1].Read.(map[string]any); claims["sub"] != "https://bank.example" {
		t.Errorf("the push service reads %v", answers[1].Read)
	}
	if event, _ := answers[2].Read.(map[string]any); event["type"] != "approval.requested" {
		t.Errorf("the institution reads %v", answers[2].Read)
	}
}
