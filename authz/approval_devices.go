package authz

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"go.uber.org/zap"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

const (
	maxDevices    = 10 // of one customer
	maxDeviceName = 64 // characters

	// bindingAge is how long after they authenticated with two factors a customer can bind a device to themselves. A token
	// that was stolen later cannot.
	bindingAge = 15 * time.Minute
)

var (
	errWeakBinding = fapi.Refuse(fapi.InsufficientUserAuthentication, "To register a device, the customer must have authenticated with two factors just now.").WithStatus(http.StatusUnauthorized)
	errDeviceName  = fapi.Refuse(fapi.InvalidRequest, "The name of the device must be one line of 1 to 64 characters.")
	errProofReused = fapi.Refuse(fapi.InvalidDeviceProof, "The jti of the proof was used before.")
	errKeyTaken    = fapi.Refuse(fapi.InvalidRequest, "The key is registered already.").WithStatus(http.StatusConflict)
	errManyDevices = fapi.Refuse(fapi.InvalidRequest, "The customer has 10 devices: one must be removed first.").WithStatus(http.StatusConflict)
	errNoDevice    = fapi.Refuse(fapi.InvalidRequest, "The customer has no such device.").WithStatus(http.StatusNotFound)
)

// appDevice is a device as the app reads it.
type appDevice struct {
	ID         uuid.UUID `json:"id"`
	ClientID   string    `json:"client_id"`
	Name       string    `json:"name"`
	CreatedAt  string    `json:"created_at"` // RFC 3339
	LastUsedAt string    `json:"last_used_at,omitempty"`
}

func deviceOf(d *storage.ApprovalDevice) appDevice {
	a := appDevice{ID: d.ID, ClientID: d.ClientID, Name: d.Name, CreatedAt: rfc3339(d.CreatedAt)}
	if d.LastUsedAt != nil {
		a.LastUsedAt = rfc3339(*d.LastUsedAt)
	}
	return a
}

// addDevice answers POST …/devices: it binds a key to the customer (RTS (EU) 2018/389 art. 24). One round trip.
func (s *Server) addDevice(r *http.Request, call *appCall) (Response, error) {
	var body struct {
		Name  string `json:"name"`
		Proof string `json:"proof"`
	}
	if err := readAppJSON(r, &body); err != nil {
		return nil, err
	}
	since := s.now().Add(-bindingAge)
	if !s.authn.Satisfies(&storage.Login{ACR: call.login.ACR, AuthTime: call.login.AuthTime}, &since, authn.SCA) {
		return nil, errWeakBinding
	}
	if !nameable(body.Name) {
		return nil, errDeviceName
	}
	remembered := s.db.RememberedSince()
	key, err := fapi.CheckDeviceProof(body.Proof, call.subject, fapi.ApprovalContext{Issuer: s.Issuer, Now: s.now(), RememberedSince: remembered})
	if err != nil {
		return nil, err
	}
	id, err := deviceID(key.Thumbprint)
	if err != nil {
		return nil, err
	}
	d := &storage.ApprovalDevice{ID: id, CustomerID: call.customer, ClientID: call.client.ID, PublicKey: key.JWK, Name: body.Name}
	uses := []storage.Use{{Hash: key.Use.Hash, ExpiresAt: key.Use.ExpiresAt, Remembered: remembered}}
	switch err := s.db.AddApprovalDevice(r.Context(), uses, d, maxDevices); {
	case errors.Is(err, storage.ErrAlreadyUsed):
		return nil, errProofReused
	case errors.Is(err, storage.ErrConflict):
		return nil, errKeyTaken
	case errors.Is(err, storage.ErrTooManyDevices):
		return nil, errManyDevices
	case err != nil:
		return nil, err
	}
	s.log.Info("device registered", zap.Stringer("customer", d.CustomerID), zap.Stringer("device", d.ID), zap.String("client_id", d.ClientID))
	return jsonResponse{http.StatusCreated, deviceOf(d)}, nil
}

// deviceID is the id of the device with a key: the same key is the same device, so it cannot be another customer's too.
func deviceID(thumbprint string) (id uuid.UUID, err error) {
	sum, err := base64.RawURLEncoding.DecodeString(thumbprint)
	if err != nil {
		return id, err
	}
	copy(id[:], sum)
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // UUIDv8 (RFC 9562 §5.8)
	return id, nil
}

// nameable tells whether a customer can know a device by that name.
func nameable(name string) bool {
	n := utf8.RuneCountInString(name)
	return n > 0 && n <= maxDeviceName && utf8.ValidString(name) && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// listDevices answers GET …/devices. One round trip.
func (s *Server) listDevices(r *http.Request, call *appCall) (Response, error) {
	devices, err := s.db.ApprovalDevices(r.Context(), call.customer)
	if err != nil {
		return nil, err
	}
	list := make([]appDevice, len(devices))
	for i := range devices {
		list[i] = deviceOf(&devices[i])
	}
	return jsonResponse{http.StatusOK, map[string]any{"devices": list}}, nil
}

// removeDevice answers DELETE …/devices/{id}. One round trip.
func (s *Server) removeDevice(r *http.Request, call *appCall) (Response, error) {
	text := mux.Vars(r)["id"]
	id, err := uuid.Parse(text)
	if err != nil || id.String() != text {
		return nil, errNoDevice
	}
	switch err := s.db.RemoveApprovalDevice(r.Context(), call.customer, id); {
	case errors.Is(err, storage.ErrNotFound):
		return nil, errNoDevice
	case err != nil:
		return nil, err
	}
	s.log.Info("device removed", zap.Stringer("customer", call.customer), zap.Stringer("device", id))
	return emptyResponse{http.StatusNoContent}, nil
}
