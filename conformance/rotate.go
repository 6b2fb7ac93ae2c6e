package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// hooks are the modules that ask something of whoever runs them, before they are started.
func (s *setup) hooks() map[string]hook {
	return map[string]hook{"oidcc-server-rotate-keys": s.rotateKeys}
}

const rotatedAfter = 20 * time.Second

// rotated are the algorithms whose keys are rotated. The module compares RSA and EC keys, and fails on any other new one.
const rotated = "ES256,PS256,RS256"

// rotateKeys rotates the server's signing keys, as an operator does, and waits until the server shows the new ones.
func (s *setup) rotateKeys(ctx context.Context) error {
	before, err := s.publishedKeys(ctx)
	if err != nil {
		return err
	}
	if _, err := s.countersign(ctx, "", "--config", s.file("serve.yaml"), "key", "rotate", "--alg", rotated); err != nil {
		return err
	}
	for deadline := time.Now().Add(rotatedAfter); time.Now().Before(deadline); {
		now, err := s.publishedKeys(ctx)
		if err != nil {
			return err
		}
		if !bytes.Equal(before, now) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the server shows no new keys after a rotation")
}

func (s *setup) publishedKeys(ctx context.Context) ([]byte, error) {
	client := s.client()
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.issuer()+"/jwks", nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", request.URL, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 1<<20))
}
