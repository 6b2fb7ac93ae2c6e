package outbound

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
)

// Transport is for libraries that make their own requests. What holds for Get and Post holds for these: of an answer there are
// at most limit bytes, and a redirect is an error. Its errors are those of the package.
func (c *Client) Transport(limit int64) http.RoundTripper { return transport{c, limit} }

type transport struct {
	*Client
	limit int64
}

func (t transport) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	if r.Body != nil {
		defer r.Body.Close() // whatever comes of it: that is a RoundTripper's to do
	}
	if !mayCall(r.URL) {
		return nil, ErrURL
	}
	r = r.Clone(r.Context()) // whose request it was may look at it again
	setHeader(r)
	err = t.do(t.http, r, func(got *http.Response) error {
		body, err := readBody(got, t.limit)
		got.Body, answer = io.NopCloser(bytes.NewReader(body)), got
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func mayCall(u *url.URL) bool {
	return u != nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && u.Opaque == "" && len(u.String()) <= maxURL
}

func setHeader(r *http.Request) {
	r.Header.Set("User-Agent", "Countersign")
	r.Header.Set("Accept-Encoding", "identity")
}
