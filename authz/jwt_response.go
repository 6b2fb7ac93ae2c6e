package authz

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// jwtResponse is an answer that is a JWT, whatever it says.
type jwtResponse struct{ mediaType, token string }

func (j jwtResponse) write(w http.ResponseWriter) {
	noStore(w.Header())
	w.Header().Set("Content-Type", j.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(j.token)))
	w.WriteHeader(http.StatusOK)
	w.Write([]byte(j.token))
}

// prefers tells whether a caller asks for a media type by its name and wants JSON no more than that (RFC 9110 §12.5.1).
func prefers(accept []string, mediaType string) bool {
	quality := map[string]float64{}
	for _, header := range accept {
		for item := range strings.SplitSeq(header, ",") {
			name, params, err := mime.ParseMediaType(item)
			if err != nil {
				continue
			}
			quality[name] = 1
			if q, given := params["q"]; given {
				quality[name], _ = strconv.ParseFloat(q, 64) // what is no number is 0
			}
		}
	}
	return quality[mediaType] > 0 && quality[mediaType] >= quality["application/json"]
}
