package fapi

import (
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json"
)

// What the bank's own app signs with the key of the device that it runs on (docs/approval-app.md): that the key is there, and
// what the customer decided.

// Codes that its API has besides those of OAuth.
const (
	InsufficientUserAuthentication Code = "insufficient_user_authentication" // RFC 9470 §3
	InvalidDeviceProof             Code = "invalid_device_proof"
	InvalidDecision                Code = "invalid_decision"
	UnknownDevice                  Code = "unknown_device"
	DigestMismatch                 Code = "digest_mismatch"
)

const (
	deviceProofType = "approval-device+jwt"
	decisionType    = "approval+jwt"

	maxApproval      = 16 << 10
	approvalAge      = time.Minute // how old a signature may be; it may be Skew ahead
	maxAccountsNamed = 200
)

// ApprovalAlgorithms are those that devices may sign with: secure elements have the first.
var ApprovalAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256}

// ApprovalContext is what the JWTs of a device are checked against.
type ApprovalContext struct {
	Issuer          string
	Now             time.Time
	RememberedSince time.Time // the memory of used jtis begins here: what may have been used before is refused
}

// approvalClaims are those that all JWTs of a device have.
type approvalClaims struct {
	Audience  audience    `json:"aud"`
	ID        string      `json:"jti"`
	IssuedAt  numericDate `json:"iat"`
	ExpiresAt numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
}

// check returns the use of a JWT that was made just now, for this server. kind and maker say what it is, and whose.
func (c *approvalClaims) check(code Code, kind, maker string, in ApprovalContext) (Use, error) {
	issued := time.Unix(int64(c.IssuedAt), 0)
	expires := issued.Add(approvalAge)
	if c.ExpiresAt != 0 {
		if exp := time.Unix(int64(c.ExpiresAt), 0).Add(Skew); exp.Before(expires) {
			expires = exp
		}
	}
	earliest := issued.Add(-Skew)
	switch {
	case in.Issuer == "" || !slices.Contains(c.Audience.values, in.Issuer):
		return Use{}, Refuse(code, "The aud of the JWT must be the issuer of this server.")
	case c.ID == "" || len(c.ID) > maxJTI:
		return Use{}, Refuse(code, "The JWT needs a jti of at most 512 characters.")
	case c.IssuedAt == 0:
		return Use{}, Refuse(code, "The JWT needs an iat.")
	case earliest.After(in.Now), time.Unix(int64(c.NotBefore), 0).After(in.Now.Add(Skew)), !in.Now.Before(expires):
		return Use{}, Refuse(code, "The JWT was not made just now: its iat is too old or in the future.")
	case earliest.Before(in.RememberedSince):
		return Use{}, Refuse(code, "The JWT is older than the memory of used ones: please make a new one.")
	}
	return Use{Hash: useHash(kind, maker, c.ID), ExpiresAt: expires, IssuedAt: earliest}, nil
}

// DeviceKey is a key that its holder has proved to have.
type DeviceKey struct {
	JWK        []byte // public, without what is no part of the key
	Thumbprint string // RFC 7638, SHA-256
	Use        Use
}

type deviceProofClaims struct {
	approvalClaims
	Subject string `json:"sub"`
}

var (
	errDeviceProof    = Refuse(InvalidDeviceProof, "The proof is not a JWT signed with ES256, EdDSA or PS256.")
	errDeviceProofKey = Refuse(InvalidDeviceProof, "The proof needs a jwk: a public key for its alg, P-256, Ed25519, or RSA with 2048 bits or more.")
)

// CheckDeviceProof checks that whoever registers a device key has it. The key is in the header, as in a DPoP proof: so the
// signature covers it too. subject is the customer as the app knows them.
func CheckDeviceProof(proof, subject string, in ApprovalContext) (*DeviceKey, error) {
	jws, header, err := parseJWS(proof, maxApproval, ApprovalAlgorithms)
	if err != nil {
		return nil, errDeviceProof.Because(err)
	}
	if jwtType(header) != deviceProofType {
		return nil, Refuse(InvalidDeviceProof, "The typ of the proof must be approval-device+jwt.")
	}
	alg, key := jose.SignatureAlgorithm(header.Algorithm), header.JSONWebKey // go-jose refuses private members
	if key == nil || checkKey(key.Key) != nil || !verifies(key, alg) {
		return nil, errDeviceProofKey
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return nil, Refuse(InvalidDeviceProof, "The signature of the proof is not valid.").Because(err)
	}
	var claims deviceProofClaims
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return nil, Refuse(InvalidDeviceProof, "The claims of the proof cannot be read.").Because(err)
	}
	if subject == "" || claims.Subject != subject {
		return nil, Refuse(InvalidDeviceProof, "The sub of the proof must be the customer's, as the app knows it.")
	}
	d := &DeviceKey{}
	if d.Thumbprint, err = thumbprint(key); err != nil {
		return nil, errDeviceProofKey.Because(err)
	}
	if d.JWK, err = (&jose.JSONWebKey{Key: key.Key, Algorithm: string(alg)}).MarshalJSON(); err != nil {
		return nil, errDeviceProofKey.Because(err)
	}
	if d.Use, err = claims.check(InvalidDeviceProof, "approval-device", d.Thumbprint, in); err != nil {
		return nil, err
	}
	return d, nil
}

// Answer is what a customer can say in the app.
type Answer string

const (
	AnswerApprove Answer = "approve"
	AnswerRefuse  Answer = "refuse"
	AnswerReport  Answer = "report" // the customer never asked for this
)

// SignedDecision is the JWT of a decision, of which nothing is verified but its form.
type SignedDecision struct {
	Device string // kid: which device says it is its

	jws *jose.JSONWebSignature
	alg jose.SignatureAlgorithm
}

// Decision is what a customer decided on a device.
type Decision struct {
	Approval string // the request
	Answer   Answer
	Digest   string   // of what was shown: base64url of SHA-256; "" for none
	Accounts []string // that the customer picked
	Number   string   // that the customer picked; "" for none
	Unlocked []string // how the customer unlocked the key (RFC 8176): methods that count, none twice
	Use      Use
}

type decisionClaims struct {
	approvalClaims
	Issuer   string   `json:"iss"`
	Approval string   `json:"approval_id"`
	Answer   Answer   `json:"decision"`
	Digest   string   `json:"digest"`
	Accounts []string `json:"accounts"`
	Number   string   `json:"number"`
	AMR      []string `json:"amr"`
}

// unlocking are the methods that unlock a key for one customer alone: by what they are or know (RFC 8176 §2).
var unlocking = []string{"face", "fpt", "iris", "pin", "pwd", "retina", "vbm"}

var errDecision = Refuse(InvalidDecision, "The decision is not a JWT with a kid, signed with ES256, EdDSA or PS256.")

// ParseDecision reads the JWT of a decision, to find out whose key it is to be verified with.
func ParseDecision(token string) (*SignedDecision, error) {
	jws, header, err := parseJWS(token, maxApproval, ApprovalAlgorithms)
	if err != nil {
		return nil, errDecision.Because(err)
	}
	if jwtType(header) != decisionType {
		return nil, Refuse(InvalidDecision, "The typ of the decision must be approval+jwt.")
	}
	if header.KeyID == "" {
		return nil, errDecision
	}
	return &SignedDecision{header.KeyID, jws, jose.SignatureAlgorithm(header.Algorithm)}, nil
}

// Verify checks the decision with the device's public key, a JWK. The caller must make sure that Use is the first, and hold
// the rest against what was asked.
func (s *SignedDecision) Verify(jwk []byte, in ApprovalContext) (*Decision, error) {
	var key jose.JSONWebKey
	if err := key.UnmarshalJSON(jwk); err != nil {
		return nil, err // ours: it was good when it was stored
	}
	if !verifies(&key, s.alg) {
		return nil, Refuse(InvalidDecision, "The alg of the decision is not that of the device's key.")
	}
	payload, err := s.jws.Verify(key.Key)
	if err != nil {
		return nil, Refuse(InvalidDecision, "The signature of the decision is not valid.").Because(err)
	}
	var claims decisionClaims
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return nil, Refuse(InvalidDecision, "The claims of the decision cannot be read.").Because(err)
	}
	if claims.Issuer != s.Device {
		return nil, Refuse(InvalidDecision, "The iss of the decision must be the device, as its kid is.")
	}
	use, err := claims.check(InvalidDecision, "approval", s.Device, in)
	if err == nil {
		err = claims.checkDecision()
	}
	if err != nil {
		return nil, err
	}
	return &Decision{
		Approval: claims.Approval, Answer: claims.Answer, Digest: claims.Digest, Accounts: claims.Accounts, Number: claims.Number,
		Unlocked: claims.unlocked(), Use: use,
	}, nil
}

// checkDecision refuses what is no decision, whatever was asked.
func (c *decisionClaims) checkDecision() error {
	switch {
	case c.Approval == "":
		return Refuse(InvalidDecision, "The decision needs an approval_id.")
	case c.Answer != AnswerApprove && c.Answer != AnswerRefuse && c.Answer != AnswerReport:
		return Refuse(InvalidDecision, "The decision must be approve, refuse or report.")
	case c.Answer == AnswerApprove && c.Digest == "":
		return Refuse(InvalidDecision, "An approval needs the digest of what was shown.")
	case len(c.Accounts) > maxAccountsNamed || slices.Contains(c.Accounts, ""):
		return Refuse(InvalidDecision, "The accounts of the decision are too many, or one is empty.")
	}
	return nil
}

// unlocked are the methods of amr by which the customer unlocked the key. What else is in it is no second factor.
func (c *decisionClaims) unlocked() (methods []string) {
	for _, m := range unlocking {
		if slices.Contains(c.AMR, m) {
			methods = append(methods, m)
		}
	}
	return methods
}
