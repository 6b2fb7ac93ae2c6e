//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// recorder learns of each secret as it goes over the wire, in both directions, and keeps what was said.
type recorder struct {
	mu    sync.Mutex
	known map[string]*confidential // by value
	said  []said
}

// said is one request and its answer.
type said struct {
	method, url string
	typed       []string // passwords and codes in it
	status      int
	location    string
	body        []byte
}

// The names under which secrets go over the wire.
var (
	formSecrets = map[string]string{
		"password": "password", "old_password": "password", "current": "password", "transaction_password": "password", "user_code": "user code", "invitation": "invitation",
		"client_assertion": "assertion", "code_verifier": "code verifier", "refresh_token": "refresh token", "access_token": "access token", "device_code": "device code",
		"auth_req_id": "auth_req_id", "client_secret": "client secret", "username": "user name", "email": "email address", "phone": "phone number", "client_notification_token": "notification token",
		"request_uri": "request_uri",
	}
	answerSecrets = map[string]string{
		"access_token": "access token", "refresh_token": "refresh token", "id_token": "ID token", "device_code": "device code", "user_code": "device user code", "auth_req_id": "auth_req_id",
		"client_secret": "client secret", "registration_access_token": "registration token", "base64EncodedAuthenticationKey": "basic key", "token": "TFA token", "request_uri": "request_uri",
	}
	headerSecrets = map[string]string{"DPoP": "DPoP proof", "Fineract-Platform-TFA-Token": "TFA token"}
)

// learn takes a secret down, once. What has fewer than four characters cannot be looked for.
func (r *recorder) learn(what, value string) *confidential {
	if len(value) < 4 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known[value] == nil {
		r.known[value] = &confidential{what: what, value: value, guessable: guessable[what]}
	}
	return r.known[value]
}

// tell takes down what a message told its reader.
func (r *recorder) tell(what, value, message string) string {
	if s := r.learn(what, value); s != nil {
		s.told = message
	}
	return value
}

// all are the secrets, but those of some kinds.
func (r *recorder) all(but ...string) (list []*confidential) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.known {
		if !slices.Contains(but, s.what) {
			list = append(list, s)
		}
	}
	return list
}

// watch has a client's traffic recorded.
func (r *recorder) watch(c *http.Client) *http.Client {
	c.Transport = recording{r, c.Transport}
	return c
}

type recording struct {
	*recorder
	http.RoundTripper
}

func (r recording) RoundTrip(q *http.Request) (*http.Response, error) {
	s := said{method: q.Method, url: q.URL.String()}
	if q.Body != nil {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return nil, err
		}
		q.Body = io.NopCloser(bytes.NewReader(body))
		s.typed = r.read(q, body)
	}
	r.headers(q)
	response, err := r.RoundTripper.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	s.body, err = io.ReadAll(response.Body)
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(s.body))
	s.status, s.location = response.StatusCode, response.Header.Get("Location")
	r.answered(response, s.body)
	r.mu.Lock()
	r.recorder.said = append(r.recorder.said, s)
	r.mu.Unlock()
	return response, err
}

// read learns what a request's body and query have. It returns what must not come back.
func (r recording) read(q *http.Request, body []byte) (typed []string) {
	kind, _, _ := mime.ParseMediaType(q.Header.Get("Content-Type"))
	values := q.URL.Query()
	switch kind {
	case "application/x-www-form-urlencoded":
		form, _ := url.ParseQuery(string(body)) // as far as it goes
		for name, all := range form {
			values[name] = append(values[name], all...)
		}
	case "application/json":
		var members map[string]any
		json.Unmarshal(body, &members)
		for name, value := range members {
			if text, ok := value.(string); ok {
				values.Add(name, text)
			}
		}
	}
	atToken := q.URL.Path == "/token"
	for name, all := range values {
		what := formSecrets[name]
		switch {
		case name == "code" && atToken:
			what = "authorization code"
		case name == "code", name == "token" && strings.HasSuffix(q.URL.Path, "/validate"):
			what = "code"
		case name == "token":
			what = "access token"
		case name == "address" && strings.HasPrefix(all[0], "+"):
			what = "phone number"
		case name == "address":
			what = "email address"
		}
		for _, value := range all {
			if what == "" {
				continue
			}
			r.learn(what, value)
			if what == "password" || what == "code" {
				typed = append(typed, value)
			}
		}
	}
	return typed
}

func (r recording) headers(q *http.Request) {
	for name, what := range headerSecrets {
		for _, value := range q.Header.Values(name) {
			r.learn(what, value)
		}
	}
	if _, value, ok := strings.Cut(q.Header.Get("Authorization"), " "); ok {
		r.learn("Authorization", value)
	}
}

func (r recording) answered(response *http.Response, body []byte) {
	for _, c := range response.Cookies() {
		r.learn("cookie", c.Value)
	}
	if to, err := url.Parse(response.Header.Get("Location")); err == nil {
		r.learn("authorization code", to.Query().Get("code"))
		r.learn("JARM response", to.Query().Get("response"))
	}
	var members map[string]any
	if json.Unmarshal(body, &members) != nil {
		return
	}
	for name, what := range answerSecrets {
		if text, ok := members[name].(string); ok {
			r.learn(what, text)
		}
	}
}

// key learns a TOTP key as the customer typed it, and its bytes.
func (r *recorder) key(base32Key string, raw []byte) {
	r.learn("TOTP key", base32Key)
	r.learn("TOTP key", string(raw))
	r.learn("TOTP key", base64.StdEncoding.EncodeToString(raw))
}
