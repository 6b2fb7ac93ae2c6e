package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pquerna/otp/totp"
)

// phone is the customer's authenticator app (RFC 6238), together with what she knows by heart.
type phone struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Secret   string `json:"totp_secret,omitempty"` // base32; "" until it was enrolled

	file string // where it is kept for the next run; "" when it is not

	mu   sync.Mutex
	last int64 // step of the last code that was typed in: the server takes each once
}

const (
	period = 30 * time.Second
	nearly = 4 * time.Second // too little of a period to type a code in
)

// openPhone reads what an earlier run has left in dir.
func openPhone(dir string, keep bool) (*phone, error) {
	p := &phone{Username: "alice"}
	if !keep {
		return p, nil
	}
	p.file = filepath.Join(dir, "customer.json")
	content, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	return p, json.Unmarshal(content, p)
}

func (p *phone) save() error {
	if p.file == "" {
		return nil
	}
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(p.file, content, 0o600)
}

func stepAt(t time.Time) int64 { return t.Unix() / int64(period/time.Second) }

func (p *phone) codeOf(step int64) (string, error) {
	return totp.GenerateCode(p.Secret, time.Unix(step*int64(period/time.Second), 0))
}

// first is the code that enrols the secret. It is the one before the current one, which the server still takes, so that
// the current one is left for the login that follows.
func (p *phone) first(now time.Time) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = stepAt(now) - 1
	if stepAt(now.Add(nearly)) > stepAt(now) {
		p.last = stepAt(now)
	}
	return p.codeOf(p.last)
}

// use returns a code that was not typed in before, waiting for one if need be.
func (p *phone) use(ctx context.Context) (string, error) {
	for {
		p.mu.Lock()
		now := time.Now()
		if step := max(stepAt(now), p.last+1); step <= stepAt(now)+1 { // the server takes one that is a step ahead
			defer p.mu.Unlock()
			p.last = step
			return p.codeOf(step)
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// screen is what the phone shows: a code that was not typed in before, and how long it is good for.
func (p *phone) screen(now time.Time) (code string, left time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := max(stepAt(now), p.last+1)
	code, err := p.codeOf(step)
	if err != nil {
		return "", 0
	}
	until := time.Unix((step+1)*int64(period/time.Second), 0)
	return code[:3] + " " + code[3:], until.Sub(now).Truncate(time.Second)
}

// uri is what other authenticator apps read.
func (p *phone) uri(issuer string) string {
	return "otpauth://totp/" + url.PathEscape(issuer+":"+p.Username) + "?" + strings.ReplaceAll(url.Values{
		"secret": {p.Secret}, "issuer": {issuer}, "period": {"30"}, "digits": {"6"}, "algorithm": {"SHA1"},
	}.Encode(), "+", "%20")
}
