package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pquerna/otp/totp"
)

// phone is the customer's authenticator app (RFC 6238), together with what she knows by heart.
type phone struct {
	username, password string

	file string // where it is kept for the next run; "" when it is not

	mu     sync.Mutex
	secret string // base32; "" until it was enrolled
	last   int64  // step of the last code that was typed in: the server takes each once
}

// keptPhone is a phone between two runs.
type keptPhone struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Secret   string `json:"totp_secret,omitempty"`
	Last     int64  `json:"last_step,omitempty"`
}

const (
	period = 30 * time.Second
	nearly = 4 * time.Second // too little of a period to type a code in
)

// openPhone reads what an earlier run has left in dir.
func openPhone(dir string, keep bool) (*phone, error) {
	p := &phone{username: "alice"}
	if !keep {
		return p, nil
	}
	p.file = filepath.Join(dir, "customer.json")
	content, err := os.ReadFile(p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	var kept keptPhone
	if err := errors.Join(err, json.Unmarshal(content, &kept)); err != nil {
		return nil, fmt.Errorf("%s: %w", p.file, err)
	}
	p.username, p.password, p.secret, p.last = kept.Username, kept.Password, kept.Secret, kept.Last
	return p, nil
}

// keep writes it down for the next run.
func (p *phone) keep() error {
	if p.file == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	content, err := json.MarshalIndent(keptPhone{p.username, p.password, p.secret, p.last}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(p.file, content, 0o600)
}

// enrolled tells whether the bank knows the secret.
func (p *phone) enrolled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.secret != ""
}

func stepAt(t time.Time) int64 { return t.Unix() / int64(period/time.Second) }

func (p *phone) codeOf(step int64) (string, error) {
	return totp.GenerateCode(p.secret, time.Unix(step*int64(period/time.Second), 0))
}

// first takes a new secret and returns the code that enrols it. It is the one before the current one, which the server still takes, so that
// the current one is left for the login that follows.
func (p *phone) first(secret string, now time.Time) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secret = secret
	p.last = stepAt(now) - 1
	if stepAt(now.Add(nearly)) > stepAt(now) {
		p.last = stepAt(now)
	}
	return p.codeOf(p.last)
}

// due tells how long it is until there is a code that was not typed in before and that the server takes: a step ahead at most.
func (p *phone) due(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, time.Unix(p.last*int64(period/time.Second), 0).Sub(now))
}

// use returns a code that was not typed in before, waiting for one if need be.
func (p *phone) use(ctx context.Context) (string, error) {
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(p.due(time.Now())):
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = max(stepAt(time.Now()), p.last+1)
	return p.codeOf(p.last)
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

// uri is what other authenticator apps read. What it leaves out has the value that they all assume.
func (p *phone) uri(issuer string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return "otpauth://totp/" + url.PathEscape(issuer+":"+p.username) + "?secret=" + p.secret + "&issuer=" + url.PathEscape(issuer)
}
