package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"html"
	"regexp"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
	"github.com/google/uuid"

	"github.com/countersign/countersign/storage"
)

const (
	bankOrigin = "https://bank.example"
	bankID     = "bank.example"
)

// softKey is an authenticator with one credential, honest unless told otherwise.
type softKey struct {
	t       testing.TB
	key     crypto.Signer
	id      []byte
	handle  []byte
	counter uint32
	counts  bool // whether it has a counter
}

// said is what an authenticator and its browser say; a test changes it before it is signed.
type said struct {
	kind, origin, rpID, challenge string
	crossOrigin                   bool
	topOrigin                     string
	flags                         byte
	counter                       uint32
	id, handle                    []byte
	aaguid                        [16]byte
	alter                         func(map[string]any) // the credential, last of all
}

const (
	flagUP, flagUV, flagBE, flagBS, flagAT = 1, 4, 8, 16, 64
)

func newSoftKey(t testing.TB) *softKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return softKeyOf(t, key)
}

func softKeyOf(t testing.TB, key crypto.Signer) *softKey {
	id := make([]byte, 32)
	rand.Read(id)
	return &softKey{t: t, key: key, id: id, counts: true}
}

// copy is a clone, with the counter as it is now.
func (k *softKey) copy() *softKey {
	c := *k
	return &c
}

func (k *softKey) says(kind string, asked passkeyQuestion, change []func(*said)) said {
	if k.counts {
		k.counter++
	}
	s := said{
		kind: kind, origin: bankOrigin, rpID: bankID, challenge: asked.PublicKey.Challenge, flags: flagUP | flagUV,
		counter: k.counter, id: k.id, handle: k.handle,
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func (s said) clientData() []byte {
	data := map[string]any{"type": s.kind, "challenge": s.challenge, "origin": s.origin, "crossOrigin": s.crossOrigin}
	if s.topOrigin != "" {
		data["topOrigin"] = s.topOrigin
	}
	raw, _ := json.Marshal(data)
	return raw
}

func (s said) authenticatorData() []byte {
	sum := sha256.Sum256([]byte(s.rpID))
	return binary.BigEndian.AppendUint32(append(sum[:], s.flags), s.counter)
}

func (s said) credential(k *softKey, response map[string]any) string {
	for name, value := range response {
		if raw, ok := value.([]byte); ok {
			response[name] = base64.RawURLEncoding.EncodeToString(raw)
		}
	}
	id := base64.RawURLEncoding.EncodeToString(s.id)
	c := map[string]any{"id": id, "rawId": id, "type": "public-key", "clientExtensionResults": map[string]any{}, "response": response}
	if s.alter != nil {
		s.alter(c)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(raw)
}

// get answers navigator.credentials.get().
func (k *softKey) get(asked passkeyQuestion, change ...func(*said)) string {
	s := k.says("webauthn.get", asked, change)
	client, data := s.clientData(), s.authenticatorData()
	return s.credential(k, map[string]any{"clientDataJSON": client, "authenticatorData": data, "signature": k.sign(client, data), "userHandle": s.handle})
}

func (k *softKey) sign(client, data []byte) []byte {
	k.t.Helper()
	sum := sha256.Sum256(client)
	signed := append(append([]byte{}, data...), sum[:]...)
	var signature []byte
	var err error
	if _, ok := k.key.(ed25519.PrivateKey); ok {
		signature, err = k.key.Sign(rand.Reader, signed, crypto.Hash(0))
	} else {
		digest := sha256.Sum256(signed)
		signature, err = k.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	}
	if err != nil {
		k.t.Fatal(err)
	}
	return signature
}

// create answers navigator.credentials.create().
func (k *softKey) create(asked passkeyQuestion, change ...func(*said)) string {
	k.t.Helper()
	k.handle, _ = base64.RawURLEncoding.DecodeString(asked.PublicKey.User.ID)
	s := k.says("webauthn.create", asked, change)
	s.flags |= flagAT
	data := append(s.authenticatorData(), s.aaguid[:]...)
	data = binary.BigEndian.AppendUint16(data, uint16(len(k.id)))
	data = append(append(data, k.id...), k.cose()...)
	object, err := webauthncbor.Marshal(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	if err != nil {
		k.t.Fatal(err)
	}
	return s.credential(k, map[string]any{"clientDataJSON": s.clientData(), "attestationObject": object, "transports": []string{"internal"}})
}

// cose is the public key (RFC 9053 §7).
func (k *softKey) cose() []byte {
	var m map[int]any
	switch public := k.key.Public().(type) {
	case *ecdsa.PublicKey:
		raw, err := public.Bytes()
		if err != nil {
			k.t.Fatal(err)
		}
		size := (len(raw) - 1) / 2
		alg, curve := -7, 1
		if size == 48 {
			alg, curve = -35, 2
		}
		m = map[int]any{1: 2, 3: alg, -1: curve, -2: raw[1 : 1+size], -3: raw[1+size:]}
	case ed25519.PublicKey:
		m = map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(public)}
	case *rsa.PublicKey:
		m = map[int]any{1: 3, 3: -257, -1: public.N.Bytes(), -2: []byte{1, 0, 1}}
	}
	raw, err := webauthncbor.Marshal(m)
	if err != nil {
		k.t.Fatal(err)
	}
	return raw
}

// passkeyQuestion is what a page asks of a passkey.
type passkeyQuestion struct {
	PublicKey struct {
		Challenge string `json:"challenge"`
		RPID      string `json:"rpId"`
		RP        struct{ ID, Name string }
		User      struct{ ID, Name, DisplayName string }
		Params    []struct {
			Alg int `json:"alg"`
		} `json:"pubKeyCredParams"`
		Attestation      string                `json:"attestation"`
		UserVerification string                `json:"userVerification"`
		Selection        map[string]any        `json:"authenticatorSelection"`
		Exclude          []struct{ ID string } `json:"excludeCredentials"`
		Allow            []struct{ ID string } `json:"allowCredentials"`
		Timeout          int                   `json:"timeout"`
	} `json:"publicKey"`
	Texts map[string]string `json:"texts"`

	state string
}

var (
	dataOptions = regexp.MustCompile(`data-options="([^"]*)"`)
	stateInput  = regexp.MustCompile(`name="state" value="([^"]*)"`)
)

// question is what the page asks.
func (p page) question(t testing.TB) (q passkeyQuestion) {
	t.Helper()
	raw := html.UnescapeString(find(dataOptions, p.body))
	if err := json.Unmarshal([]byte(raw), &q); err != nil {
		t.Fatalf("options %q: %v\n%.2000s", raw, err, p.body)
	}
	if q.state = find(stateInput, p.body); q.state == "" {
		t.Fatal("no state")
	}
	return q
}

// signInQuestion is what the login page's script gets.
func (b *browser) signInQuestion() (q passkeyQuestion) {
	b.s.t.Helper()
	answer := struct {
		Options *passkeyQuestion `json:"options"`
		State   string           `json:"state"`
	}{Options: &q}
	p := b.get(passkeyPath)
	if err := json.Unmarshal([]byte(p.body), &answer); err != nil {
		b.s.t.Fatalf("%d %s: %v", p.status, p.body, err)
	}
	q.state = answer.State
	return q
}

const (
	enrolPasskeyPath = enrolPath + "/" + storage.Passkey
	addPasskeyPath   = addPath + "/" + storage.Passkey
)

// passkeys is a server that takes them.
func passkeys(t *testing.T, c Config) *server {
	c.Origin, c.FactorKinds = bankOrigin, []string{storage.TOTP, storage.Passkey}
	s := setup(t, c)
	s.acr = SCA
	return s
}

// withPasskey makes a customer with one.
func (s *server) withPasskey(n NewCustomer, k *softKey) uuid.UUID {
	s.t.Helper()
	id := s.create(n)
	username := n.Profile.Username
	if username == "" {
		username = alice
	}
	b := s.browser()
	b.login(username, n.Password).want(s.t, "enrol_page")
	p := b.get((journey{clientID: tpp, requestURI: requestURI}).link(enrolPasskeyPath)).want(s.t, "enrol_factor_page")
	q := p.question(s.t)
	b.post(enrolPasskeyPath, "state", q.state, "response", k.create(q)).want(s.t, "consent_page")
	return id
}

func (s *server) alicesPasskey() (uuid.UUID, *softKey) {
	k := newSoftKey(s.t)
	return s.withPasskey(NewCustomer{Password: alicePassword}, k), k
}

// failures is how many attempts count against a customer.
func (s *server) failures(id uuid.UUID) (n int) {
	s.sql(s.t, &n, `SELECT coalesce(sum(l.attempts), 0)::int FROM limits l, customers c
		WHERE c.id = $1 AND (l.customer_id = c.id OR l.bucket = sha256('unknown browsers of '::bytea || c.username_index))`, [16]byte(id))
	return n
}
