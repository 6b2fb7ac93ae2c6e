package reach

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// ownServer calls an address that the operator configured. It may be private, unlike one that somebody else named; who answers
// there must still prove it.
type ownServer struct {
	url  string
	http *http.Client
}

const callTime = 8 * time.Second // at most

func newOwnServer(address string, roots *x509.CertPool) (ownServer, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return ownServer{}, errors.New("must be an https URL without user and fragment")
	}
	return ownServer{address, &http.Client{
		Timeout:       callTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 16 << 10,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
		},
	}}, nil
}

// post sends JSON, and judges the status of the answer. The answer itself is not read.
func (s ownServer) post(ctx context.Context, body []byte, header http.Header) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "Countersign")
	answer, err := s.http.Do(r)
	if err != nil {
		var called *url.Error // quotes the URL, which may hold a secret
		if errors.As(err, &called) {
			err = called.Err
		}
		return fmt.Errorf("no answer: %w", err)
	}
	defer answer.Body.Close()
	return heard(answer.StatusCode)
}
