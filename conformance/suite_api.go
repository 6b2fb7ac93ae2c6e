package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// suiteAPI is the part of the suite's HTTP API that running plans takes.
type suiteAPI struct {
	base string // ends in /api/
	http *http.Client
}

const (
	maxSuiteAnswer = 64 << 20         // a module's log holds whole pages
	longPoll       = 20 * time.Second // the suite ends one after 30
	readAttempts   = 5
	startLimit     = 3 * time.Second
)

// The states of a module, as the suite names them.
const (
	configured  = "CONFIGURED" // waits to be started
	running     = "RUNNING"
	waiting     = "WAITING" // for a browser, or for a person
	finished    = "FINISHED"
	interrupted = "INTERRUPTED"
)

// errGone says that the suite does not know, or has forgotten, what it was asked about.
var errGone = errors.New("the suite knows no such thing")

// openSuite makes a client for the suite at base. caFile, if not empty, holds the authority of its certificate (PEM).
func openSuite(base, caFile string) (*suiteAPI, error) {
	config := &tls.Config{}
	if caFile != "" {
		content, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("%s holds no certificate", caFile)
		}
	}
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16}
	return &suiteAPI{strings.TrimSuffix(base, "/") + "/api/", &http.Client{Timeout: 2 * time.Minute, Transport: transport}}, nil
}

// moduleSpec is a module of a plan, as the suite names it.
type moduleSpec struct {
	Name    string            `json:"testModule"`
	Variant map[string]string `json:"variant"`
}

// version returns the suite's release.
func (a *suiteAPI) version(ctx context.Context) (string, error) {
	var out struct{ Version string }
	return out.Version, a.call(ctx, http.MethodGet, "server", nil, nil, &out)
}

// ready waits until the suite answers, and returns its release.
func (a *suiteAPI) ready(ctx context.Context, atMost time.Duration) (string, error) {
	for deadline := time.Now().Add(atMost); ; {
		version, err := a.version(ctx)
		if err == nil || time.Now().After(deadline) {
			return version, err
		}
		fmt.Println("waiting for the suite:", err)
		if err := pause(ctx, 5*time.Second); err != nil {
			return "", err
		}
	}
}

// createPlan makes a plan of a configuration and returns its id and its modules, in the order to run them.
func (a *suiteAPI) createPlan(ctx context.Context, plan string, variant map[string]string, config []byte) (string, []moduleSpec, error) {
	query := url.Values{"planName": {plan}}
	if len(variant) > 0 {
		query.Set("variant", jsonText(variant))
	}
	var out struct {
		ID      string
		Modules []moduleSpec
	}
	return out.ID, out.Modules, a.call(ctx, http.MethodPost, "plan", query, config, &out)
}

// createModule makes an instance of a module, which starts by itself unless it waits for somebody. It returns its id.
func (a *suiteAPI) createModule(ctx context.Context, plan string, m moduleSpec) (string, error) {
	query := url.Values{"test": {m.Name}, "plan": {plan}}
	if m.Variant != nil {
		query.Set("variant", jsonText(m.Variant))
	}
	var out struct{ ID string }
	return out.ID, a.call(ctx, http.MethodPost, "runner", query, nil, &out)
}

// start starts a module that is configured. The suite has been seen to start one and then to fail at saying so, because what
// it was about to describe changed under its hands: whether it runs is asked apart.
func (a *suiteAPI) start(ctx context.Context, id string) error {
	err := a.call(ctx, http.MethodPost, "runner/"+id, nil, nil, nil)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if state, failed := a.waitState(ctx, id, startLimit, running, waiting, finished, interrupted); failed == nil && state != "" {
		return nil
	}
	return err
}

// stop ends a module. One that has ended is no error.
func (a *suiteAPI) stop(ctx context.Context, id string) error {
	err := a.call(ctx, http.MethodDelete, "runner/"+id, nil, nil, nil)
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// waitState waits up to the time given until a module is in one of the states and returns the state, or "".
func (a *suiteAPI) waitState(ctx context.Context, id string, atMost time.Duration, states ...string) (string, error) {
	query := url.Values{"states": {strings.Join(states, ",")}}
	for deadline := time.Now().Add(atMost); ; {
		left := max(time.Until(deadline), time.Millisecond)
		query.Set("timeoutMs", strconv.FormatInt(max(min(left, longPoll).Milliseconds(), 1), 10))
		var out struct{ State string }
		err := a.call(ctx, http.MethodGet, "runner/"+id+"/wait-state", query, nil, &out)
		if errors.Is(err, errGone) { // it ended, and has left the suite's memory
			out.State, err = a.endState(ctx, id, states)
		}
		if err != nil || out.State != "" || time.Now().After(deadline) {
			return out.State, err
		}
	}
}

func (a *suiteAPI) endState(ctx context.Context, id string, states []string) (string, error) {
	i, err := a.info(ctx, id)
	if err != nil {
		return "", err
	}
	for _, s := range states {
		if s == i.Status {
			return s, nil
		}
	}
	return "", pause(ctx, 200*time.Millisecond)
}

// moduleInfo is what the suite's database says of a module.
type moduleInfo struct{ Status, Result string }

func (a *suiteAPI) info(ctx context.Context, id string) (i moduleInfo, err error) {
	return i, a.call(ctx, http.MethodGet, "info/"+id, nil, nil, &i)
}

// ended returns what the suite's database says of a module that has ended, of which the database may hear a moment later
// than those who wait.
func (a *suiteAPI) ended(ctx context.Context, id string) (moduleInfo, error) {
	for deadline := time.Now().Add(endLimit); ; {
		i, err := a.info(ctx, id)
		if err != nil || i.Status == finished || i.Status == interrupted || time.Now().After(deadline) {
			return i, err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return i, err
		}
	}
}

// browserState is what the suite's browser does, or a person would have to do.
type browserState struct {
	URLs    []string          // pages to visit that no script matched
	Runners []json.RawMessage // scripts that run
}

func (a *suiteAPI) browser(ctx context.Context, id string) (b browserState, err error) {
	err = a.call(ctx, http.MethodGet, "runner/browser/"+id, nil, nil, &b)
	if errors.Is(err, errGone) {
		err = nil
	}
	return b, err
}

// logEntry is a line of a module's log. Only what the verdict takes is read; the whole is kept beside it.
type logEntry struct {
	Source       string   `json:"src"`
	Message      string   `json:"msg"`
	Result       string   `json:"result"`
	Requirements []string `json:"requirements"`
	Upload       string   `json:"upload"`         // of a picture that is still to be given
	Matched      string   `json:"matched_regexp"` // of a picture that was given: the text that a script found on the page
	NotNeeded    bool     `json:"image_no_longer_required"`
}

// log returns a module's log, and the same as the suite wrote it.
func (a *suiteAPI) log(ctx context.Context, id string) ([]logEntry, []byte, error) {
	var whole json.RawMessage
	if err := a.call(ctx, http.MethodGet, "log/"+id, nil, nil, &whole); err != nil {
		return nil, nil, err
	}
	var entries []logEntry
	return entries, whole, json.Unmarshal(whole, &entries)
}

// missingPictures returns what the pictures are of that a module still waits for.
func (a *suiteAPI) missingPictures(ctx context.Context, id string) ([]string, error) {
	var entries []logEntry
	if err := a.call(ctx, http.MethodGet, "log/"+id+"/images", nil, nil, &entries); err != nil {
		return nil, err
	}
	var missing []string
	for _, e := range entries {
		if e.Upload != "" && e.Matched == "" && !e.NotNeeded {
			missing = append(missing, e.Message)
		}
	}
	return missing, nil
}

// call makes a call. Reading is tried again when the suite stumbles; what changes something is not.
func (a *suiteAPI) call(ctx context.Context, method, path string, query url.Values, body []byte, out any) error {
	attempts := 1
	if method == http.MethodGet {
		attempts = readAttempts
	}
	var err error
	for i := range attempts {
		if i > 0 {
			if err := pause(ctx, time.Duration(i)*time.Second); err != nil {
				return err
			}
		}
		var again bool
		if again, err = a.callOnce(ctx, method, path, query, body, out); !again {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("suite: %s %s: %w", method, path, err)
	}
	return err
}

// callOnce tells whether calling again may help.
func (a *suiteAPI) callOnce(ctx context.Context, method, path string, query url.Values, body []byte, out any) (again bool, err error) {
	address := a.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := a.http.Do(request)
	if err != nil {
		return ctx.Err() == nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxSuiteAnswer))
	switch {
	case err != nil:
		return true, err
	case answer.StatusCode == http.StatusNotFound || answer.StatusCode == http.StatusServiceUnavailable: // 503: it has no browser
		return false, errGone
	case answer.StatusCode >= 300:
		text := content[:min(len(content), 600)]
		return answer.StatusCode >= 500, fmt.Errorf("%s: %s", answer.Status, text)
	case out == nil || len(content) == 0:
		return false, nil
	}
	err = json.Unmarshal(content, out)
	return err != nil, err
}

func jsonText(v map[string]string) string {
	text, _ := json.Marshal(v) // of strings alone
	return string(text)
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
