package authz

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Limits of wrong user codes, which all replicas share (RFC 8628 §5.1). There are 2.56·10^10 codes: at the limit of all
// together, whoever hits one of a thousand that wait has tried for half a year.
const (
	guessWindow      = 10 * time.Minute
	guessesTogether  = 1000
	guessesPerSource = 10
)

// device answers GET and POST /device.
func (s *Server) device(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		s.takeCode(w, r)
		return
	}
	s.enterCode(w, r)
}

// enterCode answers GET /device, the verification_uri (RFC 8628 §3.3): the customer is asked for the code, or to confirm
// the one in the link. Nothing has been looked at yet.
func (s *Server) enterCode(w http.ResponseWriter, r *http.Request) {
	page := web.Device{Action: devicePath}
	if code := fapi.ReadUserCode(r.URL.Query().Get("user_code")); code != "" {
		page.UserCode, page.Confirm = fapi.ShowUserCode(code), true
	}
	s.rendered(s.pages.Device(w, http.StatusOK, page))
}

// takeCode answers POST /device. A right code opens the journey under a request_uri of its own, for this browser alone.
func (s *Server) takeCode(w http.ResponseWriter, r *http.Request) {
	form, err := readForm(w, r)
	if err == nil {
		err = fapi.CheckParameters(form)
	}
	if err != nil {
		s.errorPage(w, r, err)
		return
	}
	typed := form.Get("user_code")
	code := fapi.ReadUserCode(typed)
	if code == "" { // what cannot be one is a slip, and no guess
		s.askCodeAgain(w, http.StatusUnprocessableEntity, typed, "problem.user_code")
		return
	}
	uri := requestURIPrefix + randomToken()
	clientID, err := s.db.EnterUserCode(r.Context(), storage.Guess{
		UserCodeHash: s.userCodeHash(code), RequestURIHash: hashOf(uri), Source: s.source(r),
		Window: guessWindow, PerSource: guessesPerSource, Together: guessesTogether,
	})
	switch {
	case errors.Is(err, storage.ErrTooManyGuesses):
		s.log.Warn("too many wrong user codes")
		s.askCodeAgain(w, http.StatusTooManyRequests, typed, "problem.user_code_many")
	case errors.Is(err, storage.ErrNotFound):
		s.askCodeAgain(w, http.StatusUnprocessableEntity, typed, "problem.user_code")
	case err != nil:
		s.errorPage(w, r, err)
	default:
		s.markEntered(w, uri)
		http.Redirect(w, r, authorizeURL(clientID, uri), http.StatusSeeOther)
	}
}

func (s *Server) askCodeAgain(w http.ResponseWriter, status int, typed, problem string) {
	s.rendered(s.pages.Device(w, status, web.Device{Action: devicePath, UserCode: typed, Problem: s.pages.Text(problem)}))
}

// source is whom wrong codes are counted for: an address, or the network of an IPv6 one, hashed.
func (s *Server) source(r *http.Request) []byte {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	address, err := netip.ParseAddr(host)
	if err == nil {
		if address = address.Unmap().WithZone(""); address.Is6() {
			network, _ := address.Prefix(64) // cannot fail
			address = network.Addr()
		}
		host = address.String()
	}
	return s.db.Keys().Index("user_code_failures.source", []byte(host))
}

// enteredCookie says that a device's code was typed, or confirmed, in this browser. Without it whoever began a request
// could enter the code themselves and send a victim the link that follows.
const enteredCookie = "__Host-device"

func (s *Server) markEntered(w http.ResponseWriter, uri string) {
	http.SetCookie(w, &http.Cookie{
		Name: enteredCookie, Value: s.enteredProof(uri), Path: "/", MaxAge: int(deviceLifetime / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func (s *Server) enteredHere(r *http.Request, uri string) bool {
	cookies := r.CookiesNamed(enteredCookie)
	return len(cookies) == 1 && hmac.Equal([]byte(cookies[0].Value), []byte(s.enteredProof(uri)))
}

func (s *Server) enteredProof(uri string) string {
	mac := hmac.New(sha256.New, s.pageKey)
	mac.Write([]byte("device code entered"))
	mac.Write(requestURIHash(uri))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// decidedHere ends a journey whose outcome the client fetches by itself (RFC 8628 §3.3): nothing is sent anywhere. refused
// is nil when the customer agreed.
func (s *Server) decidedHere(w http.ResponseWriter, r *http.Request, c *fapi.Client, q *fapi.AuthorizationRequest, refused error) {
	outcome, page := "device.done", web.Done{}
	switch {
	case errors.Is(refused, fapi.AccessDenied):
		outcome = "device.denied"
		s.logRefusal(r, nil, refusal(refused))
	case refused != nil:
		s.errorPage(w, r, refused)
		return
	}
	if q.DeliveryMode != "" {
		outcome = approvalOutcome(refused)
		page.LinkText, page.LinkURL = s.pages.Text("approval.list"), approvalsPath
	}
	page.Title, page.Text = s.pages.Text(outcome+".title"), s.pages.Text(outcome+".text", "client", nameOf(c))
	s.rendered(s.pages.Done(w, http.StatusOK, page))
}
