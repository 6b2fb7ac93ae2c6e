package authz

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"time"

	"github.com/countersign/countersign/authz/engine"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

const (
	deviceLifetime = 10 * time.Minute // in which the customer finds their phone, logs in and decides
	pollInterval   = 5 * time.Second  // RFC 8628 §3.2's default
)

// deviceAuthorization is the answer to a device authorization request (RFC 8628 §3.2).
type deviceAuthorization struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"` // seconds
	Interval                int64  `json:"interval"`   // seconds
}

// authorizeDevice answers POST /device_authorization (RFC 8628 §3.1). The request is stored as a pending authorization
// whose code, the device_code, is there before the decision that makes it worth something.
func (s *Server) authorizeDevice(ctx context.Context, r *Request) (Response, error) {
	if !r.Client.MayUse(fapi.GrantDeviceCode) {
		return nil, fapi.Refuse(fapi.UnauthorizedClient, "The client is not registered for the device grant.")
	}
	q, err := r.Client.CheckDeviceRequest(withoutCredentials(r.Form), s.DetailTypes)
	if err != nil {
		return nil, err
	}
	deviceCode, err := s.pushDevice(ctx, r, q)
	if err != nil {
		return nil, err
	}
	shown := fapi.ShowUserCode(q.UserCode)
	return jsonResponse{http.StatusOK, deviceAuthorization{
		DeviceCode:              deviceCode,
		UserCode:                shown,
		VerificationURI:         s.Issuer + devicePath,
		VerificationURIComplete: s.Issuer + devicePath + "?" + url.Values{"user_code": {shown}}.Encode(),
		ExpiresIn:               int64(deviceLifetime / time.Second),
		Interval:                int64(pollInterval / time.Second),
	}}, nil
}

// pushDevice stores the request under a user code that no other one has. One round trip, unless two meet.
func (s *Server) pushDevice(ctx context.Context, r *Request, q *fapi.AuthorizationRequest) (deviceCode string, err error) {
	deviceCode = randomToken()
	for range 3 {
		q.UserCode = newUserCode()
		a, err := s.pending(ctx, r.Client, q)
		if err != nil {
			return "", err
		}
		err = s.db.PushPolled(ctx, r.Uses(), a, storage.Polling{
			CodeHash: engine.CodeHash(deviceCode), UserCodeHash: s.userCodeHash(q.UserCode), Lifetime: deviceLifetime, Interval: pollInterval,
		})
		switch {
		case errors.Is(err, storage.ErrConflict):
			continue
		case errors.Is(err, storage.ErrNotFound):
			return "", unusable(a, err)
		}
		return deviceCode, err
	}
	return "", errors.New("authz: no user code is free")
}

// newUserCode makes a code that is easy to type, with no bias (RFC 8628 §6.1).
func newUserCode() string {
	code := make([]byte, fapi.UserCodeLength)
	for i := range code {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(fapi.UserCodeAlphabet))))
		if err != nil {
			panic(err) // crypto/rand does not fail
		}
		code[i] = fapi.UserCodeAlphabet[n.Int64()]
	}
	return string(code)
}

// userCodeHash is what a user code is found by. It is keyed: whoever read the database could else try all codes.
func (s *Server) userCodeHash(code string) []byte {
	return s.db.Keys().Index("authorizations.user_code", []byte(code))
}
