package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static/style.css
var styleSheet []byte

const staticPrefix = "/static/"

// file is one static file. Its name carries its content's hash, so that it may
// be cached for ever.
type file struct {
	stem, ext   string // "style", ".css"
	hash        string
	contentType string
	body        []byte
}

func newFile(name, contentType string, body []byte) *file {
	sum := sha256.Sum256(body)
	ext := path.Ext(name)
	return &file{
		stem:        strings.TrimSuffix(name, ext),
		ext:         ext,
		hash:        hex.EncodeToString(sum[:8]),
		contentType: contentType,
		body:        body,
	}
}

func (f *file) url() string { return staticPrefix + f.stem + "-" + f.hash + f.ext }

// staticFiles are the style sheet with the brand's colours in front, the icon
// and the logo, if there is one.
func staticFiles(b Brand) (style, icn, logo *file) {
	style = newFile("style.css", "text/css; charset=utf-8", append([]byte(palette(b.Colour)), styleSheet...))
	icn = newFile("icon.svg", "image/svg+xml", icon(b))
	switch {
	case len(b.LogoPNG) > 0:
		logo = newFile("logo.png", "image/png", b.LogoPNG)
	case len(b.LogoSVG) > 0:
		logo = newFile("logo.svg", "image/svg+xml", b.LogoSVG)
	}
	return style, icn, logo
}

// Static serves the files that pages refer to, below /static/.
//
// While two versions of the server run behind one address, a page of one may
// ask the other for its style sheet. That gets the other's, uncached, rather
// than a page without style.
func (p *Pages) Static() http.Handler {
	byName := make(map[string]*file)
	for _, f := range append(p.app.files(), p.style, p.icon, p.logo, passkeyFile) {
		if f != nil {
			byName[f.stem+f.ext] = f
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, found := strings.CutPrefix(r.URL.Path, staticPrefix)
		ext := path.Ext(name)
		stem, hash, hashed := strings.Cut(strings.TrimSuffix(name, ext), "-")
		f := byName[stem+ext]
		if !found || !hashed || f == nil {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h := w.Header()
		h.Set("Content-Type", f.contentType)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		// An SVG opened by itself is a document: it may not run anything.
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
		if hash == f.hash {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
			h.Set("ETag", `"`+f.hash+`"`)
		} else {
			h.Set("Cache-Control", "no-store")
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	})
}
