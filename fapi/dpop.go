package fapi

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	strict "github.com/go-jose/go-jose/v4/json"
)

const (
	maxProof = 8 << 10
	proofAge = time.Minute // how old a proof may be (RFC 9449 §11.1: seconds or minutes); it may be Skew ahead
)

// DPoPRequest is the request that a proof must be made for.
type DPoPRequest struct {
	Method          string
	URLs            []string // the URLs that this endpoint has; query and fragment do not count
	AccessToken     string   // at a resource server; "" at the authorization server
	Now             time.Time
	RememberedSince time.Time // the memory of used jtis begins here: what may have been used before is refused
	Algorithms      []jose.SignatureAlgorithm
}

// DPoPProof is a proof that holds, apart from what needs memory: that it is the first Use, and that Nonce is ours.
type DPoPProof struct {
	JKT   string // thumbprint of the key (RFC 7638)
	Nonce string
	Use   Use
}

type proofClaims struct {
	ID        string      `json:"jti"`
	Method    string      `json:"htm"`
	URL       string      `json:"htu"`
	IssuedAt  numericDate `json:"iat"`
	ExpiresAt numericDate `json:"exp"`
	NotBefore numericDate `json:"nbf"`
	TokenHash string      `json:"ath"`
	Nonce     string      `json:"nonce"`
}

// CheckDPoP checks the proof of possession of a request (RFC 9449 §4.3, in the order of its list). headers are the
// values of all its DPoP headers.
func CheckDPoP(headers []string, want DPoPRequest) (*DPoPProof, error) {
	if len(headers) != 1 {
		return nil, Refuse(InvalidDPoPProof, "The request needs exactly one DPoP header.")
	}
	jws, header, err := parseJWS(headers[0], maxProof, want.Algorithms)
	if err != nil {
		return nil, Refuse(InvalidDPoPProof, "The DPoP proof is not a JWT signed with an algorithm that is allowed here.").Because(err)
	}
	if header.ExtraHeaders[jose.HeaderType] != "dpop+jwt" {
		return nil, Refuse(InvalidDPoPProof, "The typ of the DPoP proof must be dpop+jwt.")
	}
	key := header.JSONWebKey // go-jose refuses private members
	if key == nil || checkKey(key.Key) != nil || !verifies(key, jose.SignatureAlgorithm(header.Algorithm)) {
		return nil, Refuse(InvalidDPoPProof, "The DPoP proof needs a jwk: a public key for its alg, RSA with 2048 bits or more, P-256 or Ed25519.")
	}
	payload, err := jws.Verify(key.Key)
	if err != nil {
		return nil, Refuse(InvalidDPoPProof, "The signature of the DPoP proof is not valid.").Because(err)
	}
	var claims proofClaims
	if err := strict.Unmarshal(payload, &claims); err != nil {
		return nil, Refuse(InvalidDPoPProof, "The claims of the DPoP proof cannot be read.").Because(err)
	}
	jkt, err := thumbprint(key)
	if err != nil {
		return nil, Refuse(InvalidDPoPProof, "The key of the DPoP proof cannot be read.").Because(err)
	}
	return checkProofClaims(&claims, jkt, &want)
}

// thumbprint is the SHA-256 thumbprint of a key (RFC 7638).
func thumbprint(key *jose.JSONWebKey) (string, error) {
	sum, err := key.Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

func checkProofClaims(claims *proofClaims, jkt string, want *DPoPRequest) (*DPoPProof, error) {
	if claims.ID == "" || len(claims.ID) > maxJTI {
		return nil, Refuse(InvalidDPoPProof, "The DPoP proof needs a jti of at most 512 characters.")
	}
	if claims.Method == "" || claims.Method != want.Method {
		return nil, Refuse(InvalidDPoPProof, "The htm of the DPoP proof is not the method of the request.")
	}
	if !slices.ContainsFunc(want.URLs, func(u string) bool { return sameTarget(claims.URL, u) }) {
		return nil, Refuse(InvalidDPoPProof, "The htu of the DPoP proof is not the URL of the request.")
	}
	if claims.IssuedAt == 0 {
		return nil, Refuse(InvalidDPoPProof, "The DPoP proof needs an iat.")
	}
	issued := time.Unix(int64(claims.IssuedAt), 0)
	expires := issued.Add(proofAge)
	// exp and nbf are not asked for, but a JWT that has them says when it is valid (RFC 7519 §4.1).
	if claims.ExpiresAt != 0 {
		if exp := time.Unix(int64(claims.ExpiresAt), 0).Add(Skew); exp.Before(expires) {
			expires = exp
		}
	}
	if issued.After(want.Now.Add(Skew)) || time.Unix(int64(claims.NotBefore), 0).After(want.Now.Add(Skew)) || !want.Now.Before(expires) {
		return nil, Refuse(InvalidDPoPProof, "The DPoP proof was not made just now: its iat is too old or in the future.")
	}
	earliest := issued.Add(-Skew)
	if earliest.Before(want.RememberedSince) {
		return nil, Refuse(InvalidDPoPProof, "The DPoP proof is older than the memory of used ones. Make a new one.")
	}
	if want.AccessToken != "" && !isHashOf(claims.TokenHash, want.AccessToken) {
		return nil, Refuse(InvalidDPoPProof, "The ath of the DPoP proof is not the hash of the access token.")
	}
	return &DPoPProof{
		JKT:   jkt,
		Nonce: claims.Nonce,
		// The key is part of it: else whoever guesses a jti could use it up for its owner.
		Use: Use{Hash: useHash("dpop", jkt, claims.ID), ExpiresAt: expires, IssuedAt: earliest},
	}, nil
}

func isHashOf(hash, token string) bool {
	sum := sha256.Sum256([]byte(token))
	var text [43]byte
	base64.RawURLEncoding.Encode(text[:], sum[:])
	return subtle.ConstantTimeCompare(text[:], []byte(hash)) == 1
}

// sameTarget compares two URLs without query and fragment (RFC 9449 §4.3), normalised as RFC 3986 §6.2.2 and §6.2.3 do.
func sameTarget(a, b string) bool {
	a, b = withoutQuery(a), withoutQuery(b)
	if a == b {
		return a != ""
	}
	a, ok := normalURL(a)
	if !ok {
		return false
	}
	b, ok = normalURL(b)
	return ok && a == b
}

func withoutQuery(u string) string {
	if i := strings.IndexAny(u, "?#"); i >= 0 {
		return u[:i]
	}
	return u
}

func normalURL(text string) (string, bool) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", false
	}
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	} else {
		host = strings.TrimSuffix(host, ":80")
	}
	host = strings.TrimSuffix(host, ":") // an empty port is the default one
	return u.Scheme + "://" + host + withoutDots(normalEscapes(u.EscapedPath())), true
}

// normalEscapes decodes what needs no escaping and writes the other escapes in capitals (RFC 3986 §6.2.2.1, §6.2.2.2).
func normalEscapes(path string) string {
	if !strings.Contains(path, "%") {
		return path
	}
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			c := unhex(path[i+1])<<4 | unhex(path[i+2])
			if unreserved(c) {
				out = append(out, c)
			} else {
				out = append(out, strings.ToUpper(path[i:i+3])...)
			}
			i += 2
			continue
		}
		out = append(out, path[i])
	}
	return string(out)
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// withoutDots removes "." and ".." from an absolute path (RFC 3986 §5.2.4).
func withoutDots(path string) string {
	if path == "" {
		return "/"
	}
	if !strings.Contains(path, "/.") {
		return path
	}
	segments := strings.Split(path[1:], "/")
	out := make([]string, 0, len(segments))
	for i, segment := range segments {
		last := i == len(segments)-1
		switch segment {
		case ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, segment)
			continue
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/")
}

// nonceLife is how long a nonce is handed out. It is accepted for as long again.
const nonceLife = 5 * time.Minute

// Nonces makes and checks DPoP nonces (RFC 9449 §8). Nothing is stored: every replica with the same key knows them all.
type Nonces struct{ key []byte }

// NewNonces takes a secret key of 32 bytes or more.
func NewNonces(key []byte) *Nonces { return &Nonces{key: slices.Clone(key)} }

// New returns the nonce to hand out now.
func (n *Nonces) New(now time.Time) string {
	return n.at(now.Unix() / int64(nonceLife/time.Second))
}

// Check tells whether the nonce was handed out in the last minutes.
func (n *Nonces) Check(nonce string, now time.Time) bool {
	if len(nonce) != 22 {
		return false
	}
	// The clock of the replica that made it may be ahead of this one's.
	current, ahead := now.Unix()/int64(nonceLife/time.Second), now.Add(Skew).Unix()/int64(nonceLife/time.Second)
	for period := current - 1; period <= ahead; period++ {
		if subtle.ConstantTimeCompare([]byte(nonce), []byte(n.at(period))) == 1 {
			return true
		}
	}
	return false
}

func (n *Nonces) at(period int64) string {
	mac := hmac.New(sha256.New, n.key)
	mac.Write([]byte("countersign dpop nonce\x00"))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(period)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
