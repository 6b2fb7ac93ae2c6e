package fapi

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// HTTP message signatures (RFC 9421) as the working draft "FAPI 2.0 HTTP Signatures" wants them of requests to resource
// servers and of their responses. Section numbers without a document are the draft's.

// Tags say that a signature is meant for this profile (§5.3.1, §5.3.2).
const (
	requestTag  = "fapi-2-request"
	responseTag = "fapi-2-response"
)

const (
	maxSignatureAge = time.Minute // §5.3.1.2: recommended
	signatureLabel  = "fapi"      // of those made here
)

// HTTPSignature is a signature that holds, and the evidence of it: who has Base, Value and the key can show what was sent.
type HTTPSignature struct {
	Label   string // in Signature-Input
	KeyID   string
	Created time.Time
	Nonce   string   // as it was sent; nobody has looked whether it is new
	Covered []string // component identifiers, in order
	Base    []byte   // what was signed (RFC 9421 §2.5)
	Value   []byte   // the signature
}

// ErrNotSigned is the refusal of a request without any signature that is meant for this profile.
var ErrNotSigned = Refuse(InvalidRequest, "The request needs a message signature with the tag fapi-2-request.").WithStatus(http.StatusUnauthorized)

// CheckRequestSignature verifies the signature of a request (§5.3.1.2) with the client's keys. Signatures with other tags
// are somebody else's; one with this tag must be there, and no second one.
func CheckRequestSignature(m *HTTPMessage, keys *jose.JSONWebKeySet, now time.Time) (*HTTPSignature, error) {
	return m.checkSignature(requestTag, m.requestComponents(), keys, now)
}

// CheckResponseSignature verifies the signature of a response (§5.3.2.2) with the resource server's keys, for a client.
// It asks for all that ties the response to its request, which the signer has to put in (§5.3.2.1).
func CheckResponseSignature(m *HTTPMessage, keys *jose.JSONWebKeySet, now time.Time) (*HTTPSignature, error) {
	return m.checkSignature(responseTag, m.responseComponents(), keys, now)
}

// checkSignature answers whatever is wrong with 401 (§5.3.1.2-3). The standards have no code for it.
func (m *HTTPMessage) checkSignature(tag string, must []string, keys *jose.JSONWebKeySet, now time.Time) (*HTTPSignature, error) {
	signature, err := m.verifySignature(tag, must, keys, now)
	if err == nil || err == ErrNotSigned {
		return signature, err
	}
	return nil, AsError(err).WithStatus(http.StatusUnauthorized)
}

func (m *HTTPMessage) verifySignature(tag string, must []string, keys *jose.JSONWebKeySet, now time.Time) (*HTTPSignature, error) {
	label, input, value, err := m.findSignature(tag)
	if err != nil {
		return nil, err
	}
	signature, err := readSignature(label, input, now)
	if err != nil {
		return nil, err
	}
	if len(m.Body) > 0 {
		must = append(must, `"content-digest"`)
	}
	for _, name := range must {
		if !slices.Contains(signature.Covered, name) {
			return nil, Refuse(InvalidRequest, "The signature does not cover all that it must.").Because(errors.New("not covered: " + name))
		}
	}
	if err := m.CheckContentDigest(); err != nil {
		return nil, Refuse(InvalidRequest, "The Content-Digest is not that of the content.").Because(err)
	}
	if signature.Base, err = m.signatureBase(input); err != nil {
		return nil, Refuse(InvalidRequest, "The signature covers what cannot be had of the message.").Because(err)
	}
	signature.Value = value
	alg, _ := input.param("alg").(string)
	if err := verifyHTTP(keys, signature.KeyID, alg, signature.Base, value); err != nil {
		return nil, Refuse(InvalidRequest, "The signature is not valid.").Because(err)
	}
	return signature, nil
}

// findSignature returns the one signature with the tag: its label, what it says of itself, and its value (RFC 9421 §3.2).
func (m *HTTPMessage) findSignature(tag string) (label string, input *fieldItem, value []byte, err error) {
	inputs, err := parseDictionary(m.Header.Values("Signature-Input"))
	if err != nil {
		return "", nil, nil, Refuse(InvalidRequest, "The Signature-Input cannot be read.").Because(err)
	}
	for i := range inputs {
		if inputs[i].param("tag") != tag {
			continue
		}
		if input != nil {
			return "", nil, nil, Refuse(InvalidRequest, "There is more than one signature for this purpose.")
		}
		label, input = inputs[i].key, &inputs[i].fieldItem
	}
	if input == nil {
		return "", nil, nil, ErrNotSigned
	}
	values, err := parseDictionary(m.Header.Values("Signature"))
	if err != nil {
		return "", nil, nil, Refuse(InvalidRequest, "The Signature cannot be read.").Because(err)
	}
	if item := findMember(values, label); item != nil {
		value, _ = item.value.([]byte)
	}
	if value == nil {
		return "", nil, nil, Refuse(InvalidRequest, "The Signature has no value for its Signature-Input.")
	}
	return label, input, value, nil
}

// readSignature reads the parameters and checks the times. A parameter that is not of its type is refused; one that
// nobody knows is not (RFC 9421 §2.3).
func readSignature(label string, input *fieldItem, now time.Time) (*HTTPSignature, error) {
	keyID, ok1 := paramOf[string](input, "keyid")
	nonce, ok2 := paramOf[string](input, "nonce")
	_, ok3 := paramOf[string](input, "alg")
	created, ok4 := paramOf[int64](input, "created")
	expires, ok5 := paramOf[int64](input, "expires")
	covered, ok6 := input.value.([]fieldItem)
	if !(ok1 && ok2 && ok3 && ok4 && ok5 && ok6) {
		return nil, Refuse(InvalidRequest, "The Signature-Input is not a list with parameters of their types.")
	}
	s := &HTTPSignature{Label: label, KeyID: keyID, Nonce: nonce, Created: time.Unix(created, 0)}
	switch {
	case keyID == "":
		return nil, Refuse(InvalidRequest, "The signature needs a keyid.")
	case created == 0:
		return nil, Refuse(InvalidRequest, "The signature needs a time of creation.")
	case now.Sub(s.Created) > maxSignatureAge, s.Created.Sub(now) > Skew:
		return nil, Refuse(InvalidRequest, "The signature was not made just now.")
	case input.param("expires") != nil && !now.Before(time.Unix(expires, 0)):
		return nil, Refuse(InvalidRequest, "The signature has expired.")
	}
	for i := range covered {
		s.Covered = append(s.Covered, covered[i].String())
	}
	return s, nil
}

// paramOf returns a parameter, and whether it is absent or of that type.
func paramOf[T any](input *fieldItem, name string) (T, bool) {
	value := input.param(name)
	v, ok := value.(T)
	return v, ok || value == nil
}

// SignRequest signs a request as a client must (§5.3.1.1): it sets Content-Digest, Signature-Input and Signature.
func SignRequest(m *HTTPMessage, key HTTPSigningKey, now time.Time) error {
	return m.sign(m.requestComponents(), requestTag, key, now)
}

// SignResponse signs a response as a resource server must (§5.3.2.1): it sets Content-Digest, Signature-Input and
// Signature. asked is the signature of the request, if there was one that holds: to cover the signature alone would not
// cover what it covers (RFC 9421 §7.3.7).
func SignResponse(m *HTTPMessage, asked *HTTPSignature, key HTTPSigningKey, now time.Time) error {
	covered := m.responseComponents()
	if asked != nil {
		for _, name := range asked.Covered {
			if !slices.Contains(covered, name+";req") {
				covered = append(covered, name+";req")
			}
		}
	}
	return m.sign(covered, responseTag, key, now)
}

func (m *HTTPMessage) sign(covered []string, tag string, key HTTPSigningKey, now time.Time) error {
	if len(m.Body) > 0 {
		m.Header.Set("Content-Digest", contentDigest(m.Body))
		covered = append(covered, `"content-digest"`)
		if m.Header.Get("Content-Type") != "" { // how the content is to be read
			covered = append(covered, `"content-type"`)
		}
	}
	input := fmt.Sprintf("%s=(%s);created=%d;keyid=%s;tag=%s", signatureLabel, strings.Join(covered, " "), now.Unix(), writeBare(key.ID), writeBare(tag))
	members, err := parseDictionary([]string{input})
	if err != nil {
		return err
	}
	base, err := m.signatureBase(&members[0].fieldItem)
	if err != nil {
		return err
	}
	value, err := key.sign(base)
	if err != nil {
		return err
	}
	m.Header.Set("Signature-Input", input)
	m.Header.Set("Signature", signatureLabel+"="+writeBare(value))
	return nil
}

// AcceptSignature asks for the signature that a request lacks (RFC 9421 §5.1).
func AcceptSignature(m *HTTPMessage) string {
	covered := m.requestComponents()
	if len(m.Body) > 0 {
		covered = append(covered, `"content-digest"`)
	}
	return fmt.Sprintf("%s=(%s);created;tag=%s", signatureLabel, strings.Join(covered, " "), writeBare(requestTag))
}

// requestComponents are what the signature of a request must cover, besides the digest of its content.
func (m *HTTPMessage) requestComponents() []string {
	covered := []string{`"@method"`, `"@target-uri"`, `"authorization"`}
	if len(m.Header.Values("DPoP")) > 0 {
		covered = append(covered, `"dpop"`)
	}
	return covered
}

// responseComponents are what the signature of a response must cover, besides the digest of its content: what ties it to
// its request.
func (m *HTTPMessage) responseComponents() []string {
	covered := []string{`"@status"`, `"@method";req`, `"@target-uri";req`}
	for _, name := range []string{"content-digest", "signature-input", "signature"} {
		if len(m.Request.Header.Values(name)) > 0 {
			covered = append(covered, writeBare(name)+";req")
		}
	}
	return covered
}

// contentDigest is the Content-Digest of a content (RFC 9530 §2).
func contentDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha-256=" + writeBare(sum[:])
}

// CheckContentDigest checks the Content-Digest, if the message has one (RFC 9530 §2): it needs one digest of an algorithm
// that is known here and no longer considered weak (§5), and all of those must be right.
func (m *HTTPMessage) CheckContentDigest() error {
	lines := m.Header.Values("Content-Digest")
	if len(lines) == 0 {
		return nil
	}
	members, err := parseDictionary(lines)
	if err != nil {
		return err
	}
	known := false
	for _, member := range members {
		var want []byte
		switch member.key {
		case "sha-256":
			sum := sha256.Sum256(m.Body)
			want = sum[:]
		case "sha-512":
			sum := sha512.Sum512(m.Body)
			want = sum[:]
		default:
			continue
		}
		known = true
		if got, _ := member.value.([]byte); !bytes.Equal(got, want) {
			return fmt.Errorf("the %s differs", member.key)
		}
	}
	if !known {
		return errors.New("neither sha-256 nor sha-512")
	}
	return nil
}
