package resource

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/countersign/countersign/fapi"
)

// scheme is an authentication scheme by which a token is presented, as it is written in challenges.
type scheme string

const (
	bearer scheme = "Bearer" // RFC 6750 §2.1
	dpop   scheme = "DPoP"   // RFC 9449 §7.1
)

const (
	maxToken = 16 << 10
	maxForm  = 64 << 10
)

var (
	errNoToken        = fapi.Refuse(fapi.InvalidToken, "The call needs an access token in its Authorization header.")
	errMalformedToken = fapi.Refuse(fapi.InvalidToken, "The Authorization header does not hold an access token.")
	errTwoHeaders     = fapi.Refuse(fapi.InvalidRequest, "The call has more than one Authorization header.")
	errMisplaced      = fapi.Refuse(fapi.InvalidRequest, "An access token belongs into the Authorization header, not into a URL or a body.")
)

// parseAuthorization reads the token from the values of all Authorization headers. errNoToken means that none was
// presented at all.
func parseAuthorization(values []string) (scheme, string, error) {
	if len(values) == 0 {
		return bearer, "", errNoToken
	}
	if len(values) > 1 { // one of them another hop may have read (RFC 9110 §11.6.2 knows one)
		return bearer, "", errTwoHeaders
	}
	name, rest, _ := strings.Cut(values[0], " ")
	var s scheme
	switch { // RFC 9110 §11.1: case-insensitive
	case strings.EqualFold(name, string(bearer)):
		s = bearer
	case strings.EqualFold(name, string(dpop)):
		s = dpop
	default:
		return bearer, "", errNoToken
	}
	token := strings.TrimLeft(rest, " ") // RFC 9110 §11.4: one space or more
	if !isToken68(token) || len(token) > maxToken {
		return s, "", errMalformedToken
	}
	return s, token, nil
}

// isToken68 tells whether text is a b64token (RFC 6750 §2.1).
func isToken68(text string) bool {
	text = strings.TrimRight(text, "=")
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return text != ""
}

// checkPlaces refuses a token in the query or in a form (FAPI 2.0 §5.3.4; RFC 6750 §2: one place only). It is refused
// even beside a good one: what stands in a URL has been logged on the way.
func checkPlaces(r *http.Request) error {
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") {
		return errMisplaced
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
	if err != nil {
		return fapi.Refuse(fapi.InvalidRequest, "The body cannot be read.").Because(err)
	}
	r.Body = &rereadBody{io.MultiReader(bytes.NewReader(start), r.Body), r.Body} // the handler reads it from the start
	form, _ := url.ParseQuery(string(start))                                     // what is malformed is the handler's matter
	if form.Has("access_token") {
		return errMisplaced
	}
	return nil
}

// rereadBody is a body of which the start was read before.
type rereadBody struct {
	io.Reader
	io.Closer
}
