package authz

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"

	strict "github.com/go-jose/go-jose/v4/json"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// A signature is a login that lasts for one decision: the key is what the customer has, and what unlocked it is what they are or
// know. From there on it is the decision of any login.

var (
	errAppMedia       = fapi.Refuse(fapi.InvalidRequest, "The body must be application/json, or a decision application/jwt.").WithStatus(http.StatusUnsupportedMediaType)
	errAppBody        = fapi.Refuse(fapi.InvalidRequest, "The body is not the JSON that the call takes.")
	errUnknownDevice  = fapi.Refuse(fapi.UnknownDevice, "The device is not registered for this customer and app, or the customer is locked.").WithStatus(http.StatusForbidden)
	errOtherRequest   = fapi.Refuse(fapi.InvalidDecision, "The approval_id of the decision must be that of the request.")
	errDecisionReused = fapi.Refuse(fapi.InvalidDecision, "The jti of the decision was used before.")
	errShownOther     = fapi.Refuse(fapi.DigestMismatch, "The digest is not that of the request as it is now. Please show it to the customer again.").WithStatus(http.StatusConflict)
	errNotUnlocked    = fapi.Refuse(fapi.InsufficientUserAuthentication, "The request needs two factors: amr must say how the customer unlocked the key.").WithStatus(http.StatusForbidden)
	errAppAccounts    = fapi.Refuse(fapi.InvalidDecision, "The accounts of the decision must be some that were shown, and none when none were.")
	errAppNumber      = fapi.Refuse(fapi.InvalidDecision, "An approval needs the number that the customer picked.")
	errAppWrongNumber = fapi.Refuse(fapi.AccessDenied, "It is not the number that the other device shows: the request was refused.").WithStatus(http.StatusForbidden)
)

// decideWaiting answers POST …/requests/{id}/decision. Two round trips.
func (s *Server) decideWaiting(r *http.Request, call *appCall) (Response, error) {
	id, uri, err := s.approvalNamed(r)
	if err != nil {
		return nil, err
	}
	signed, err := readDecision(r)
	if err != nil {
		return nil, err
	}
	device, err := uuid.Parse(signed.Device)
	if err != nil || device.String() != signed.Device {
		return nil, errUnknownDevice
	}
	stored, key, err := s.db.OpenWithDevice(r.Context(), requestURIHash(uri), call.customer, device, call.client.ID)
	if err != nil {
		return nil, noApproval(err)
	}
	if key == nil {
		return nil, errUnknownDevice
	}
	remembered := s.db.RememberedSince()
	d, err := signed.Verify(key.PublicKey, fapi.ApprovalContext{Issuer: s.Issuer, Now: s.now(), RememberedSince: remembered})
	if err != nil {
		return nil, err
	}
	if d.Approval != id.String() {
		return nil, errOtherRequest
	}
	j, document, err := s.opened(r, call, stored, uri)
	if err != nil {
		return nil, err
	}
	by := signature{
		uses:  []storage.Use{{Hash: d.Use.Hash, ExpiresAt: d.Use.ExpiresAt, Remembered: remembered}},
		login: deviceLogin(key, d.Unlocked),
	}
	if err := s.decideBySignature(r, j, document, d, by); err != nil {
		return nil, err
	}
	s.log.Info("decided in the app", zap.Stringer("customer", call.customer), zap.Stringer("device", device), zap.Stringer("authorization", id),
		zap.String("decision", string(d.Answer)), zap.String("digest", d.Digest), zap.String("client_id", j.client.ID))
	return jsonResponse{http.StatusOK, map[string]string{"id": id.String(), "decision": string(d.Answer)}}, nil
}

// readDecision reads the JWT: as it is, or as the member decision of a JSON object.
func readDecision(r *http.Request) (*fapi.SignedDecision, error) {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media != "application/jwt" {
		var body struct {
			Decision string `json:"decision"`
		}
		if err := readAppJSON(r, &body); err != nil {
			return nil, err
		}
		return fapi.ParseDecision(body.Decision)
	}
	token, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, errTooLarge.Because(err)
	}
	return fapi.ParseDecision(string(token))
}

// readAppJSON reads a JSON body strictly: no member twice, or in other letters.
func readAppJSON(r *http.Request, into any) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return errAppMedia
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return errTooLarge.Because(err)
	}
	if err := strict.Unmarshal(body, into); err != nil {
		return errAppBody.Because(err)
	}
	return nil
}

// signature is by whom something is decided, and what is used up thereby.
type signature struct {
	uses  []storage.Use
	login storage.DeviceLogin
}

// deviceLogin is what a signature is worth: one factor, or two if the customer unlocked the key (RFC 8176 §2).
func deviceLogin(device *storage.ApprovalDevice, unlocked []string) storage.DeviceLogin {
	l := storage.DeviceLogin{Device: device.ID, Customer: device.CustomerID, ClientID: device.ClientID, ACR: authn.CA, AMR: []string{"pop"}}
	if len(unlocked) > 0 {
		l.ACR, l.AMR = authn.SCA, append(append(l.AMR, unlocked...), "mfa")
	}
	return l
}

// decideBySignature records what the customer decided. One round trip.
func (s *Server) decideBySignature(r *http.Request, j *journey, document []byte, d *fapi.Decision, by signature) error {
	login := &storage.Login{CustomerID: by.login.Customer, AuthTime: s.now(), ACR: by.login.ACR, AMR: by.login.AMR}
	if !s.authn.Satisfies(login, j.AuthenticatedAfter, j.ACRRequired) {
		return errNotUnlocked
	}
	var err error
	switch {
	case d.Answer == fapi.AnswerReport:
		err = s.db.ReportBy(r.Context(), by.uses, by.login, j.RequestURIHash, j.client.ID)
	case d.Answer == fapi.AnswerRefuse:
		err = s.db.DenyBy(r.Context(), by.uses, by.login, j.RequestURIHash, j.client.ID)
	default:
		return s.approveBySignature(r, j, document, d, by)
	}
	return undecidedInApp(err)
}

// approveBySignature records a yes to what was shown, and nothing else. Whoever picked a wrong number said no, as on the page.
func (s *Server) approveBySignature(r *http.Request, j *journey, document []byte, d *fapi.Decision, by signature) error {
	picked := j.request.Number == "" || subtle.ConstantTimeCompare([]byte(d.Number), []byte(j.request.Number)) == 1
	switch {
	case d.Digest != digestOf(document):
		return errShownOther
	case !picked && d.Number == "":
		return errAppNumber
	case !picked:
		err := s.db.DenyBy(r.Context(), by.uses, by.login, j.RequestURIHash, j.client.ID)
		if err == nil {
			err = errAppWrongNumber.Because(errWrongNumber)
		}
		return undecidedInApp(err)
	case !s.mayPick(j, d.Accounts):
		return errAppAccounts
	}
	rules := j.client.Rules()
	return undecidedInApp(s.db.ApproveBy(r.Context(), by.uses, by.login, storage.Approval{
		RequestURIHash: j.RequestURIHash, ClientID: j.client.ID, AccountIDs: d.Accounts, Without: j.without,
		CodeLifetime: rules.CodeLifetime, TokenLifetime: rules.AccessTokenLifetime,
	}))
}

// digestOf is the digest of what was shown, as the app signs it.
func digestOf(document []byte) string {
	sum := sha256.Sum256(document)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// mayPick tells whether the accounts are some of those that were shown; when none are to be picked, there must be none.
func (s *Server) mayPick(j *journey, picked []string) bool {
	if !s.consents.NeedsAccounts(j.asked()) {
		return len(picked) == 0
	}
	return len(picked) > 0 && !slices.ContainsFunc(picked, func(id string) bool {
		return !slices.ContainsFunc(j.Accounts, func(a storage.Account) bool { return a.ID == id })
	})
}

// undecidedInApp says why the store did not take a decision.
func undecidedInApp(err error) error {
	switch {
	case errors.Is(err, storage.ErrAlreadyUsed):
		return errDecisionReused
	case errors.Is(err, storage.ErrNoDevice):
		return errUnknownDevice
	}
	return noApproval(err)
}
