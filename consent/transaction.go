package consent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/authn"
	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Authoriser has customers prove that they want what a digest stands for, and nothing else. *authn.Authn is one.
type Authoriser interface {
	// Guard and GuardBy let a page run for a login that does; Meets tells what one lacks.
	Guard(w http.ResponseWriter, r *http.Request, action authn.Action, page string) (*storage.Visitor, bool)
	GuardBy(w http.ResponseWriter, r *http.Request, rule authn.Rule, page string) (*storage.Visitor, bool)
	Meets(login *storage.Login, rule authn.Rule) *authn.Prompt

	// TransactionRule is what a login and a proof must be for an amount; TransactionFactors are those that a visitor has for it.
	TransactionRule(amount, currency string) authn.Rule
	TransactionFactors(v *storage.Visitor, rule authn.Rule) ([]authn.TransactionFactor, error)

	// The proofs: a code that is sent in words that say what it is for, or a passkey's signature, each bound to the digest.
	SendTransactionCode(ctx context.Context, v *storage.Visitor, f authn.TransactionFactor, digest []byte, words func(code string, lifetime time.Duration) (subject, text string)) error
	CheckTransactionCode(ctx context.Context, v *storage.Visitor, f authn.TransactionFactor, digest []byte, typed string) (storage.TransactionProof, error)
	BeginPasskey(ctx context.Context, v *storage.Visitor, purpose string, binding []byte) (options json.RawMessage, state string, err error)
	CheckTransactionPasskey(ctx context.Context, v *storage.Visitor, digest []byte, state string, response []byte) (storage.TransactionProof, error)

	Visit(r *http.Request) storage.Visit                                     // where somebody decides from
	RetryAfter(w http.ResponseWriter, err error) (text string, blocked bool) // what is said to whom has to wait

	// Beside the proof, where the institution wants one.
	WantsTransactionPassword() bool
	CheckTransactionPassword(ctx context.Context, customer uuid.UUID, password string) error
}

// TransactionLimits are what an institution decides about transactions. Zero values are replaced by the defaults.
type TransactionLimits struct {
	Lifetime time.Duration // how long one may wait at most, and does if its client asks for nothing else; default 24 hours
	MaxOpen  int           // that may wait which one customer has started; default 20
	Notices  int           // an hour, of which one approver is told, some more at once; default 10
}

// TransactionOptions are what a Transactions needs.
type TransactionOptions struct {
	DB         *storage.DB
	Tenant     string
	Limits     TransactionLimits
	Authoriser Authoriser

	// The API, as in Options. Subject is the sub by which a client knows a customer, Customer the other way round.
	BaseURL      string
	Authenticate Authenticate
	Challenge    Challenge
	Subject      func(clientID string, customer uuid.UUID) string
	Customer     func(clientID, subject string) uuid.UUID

	// The pages.
	Pages         *web.Pages
	ClientName    func(clientID string) string
	SignOutAction string
	Zone          *time.Location // nil: UTC

	Now    func() time.Time
	Failed func(r *http.Request, cause error)
}

// Transactions is transaction authorization with dynamic linking (PSD2 RTS art. 5) and mandates. Payment consents and CIBA use
// Start, Find, Approve and Consume; the API and the pages here do the same. Safe for concurrent use.
type Transactions struct{ o TransactionOptions }

// NewTransactions checks the options.
func NewTransactions(o TransactionOptions) (*Transactions, error) {
	u, err := url.Parse(o.BaseURL)
	switch {
	case o.DB == nil || o.Authoriser == nil || o.Authenticate == nil || o.Subject == nil || o.Customer == nil || o.Pages == nil || o.ClientName == nil:
		return nil, errors.New("consent: transactions: an option is missing")
	case err != nil || u.Host == "" || strings.HasSuffix(o.BaseURL, "/"):
		return nil, fmt.Errorf("consent: BaseURL %q must be absolute and end without a slash", o.BaseURL)
	case o.Limits.Lifetime < 0 || o.Limits.MaxOpen < 0 || o.Limits.Notices < 0:
		return nil, errors.New("consent: transactions: lifetime and numbers must not be negative")
	}
	if o.Limits.Lifetime == 0 {
		o.Limits.Lifetime = 24 * time.Hour
	}
	if o.Limits.MaxOpen == 0 {
		o.Limits.MaxOpen = 20
	}
	if o.Limits.Notices == 0 {
		o.Limits.Notices = 10
	}
	if o.Challenge == nil {
		o.Challenge = bearerChallenge
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Failed == nil {
		o.Failed = func(*http.Request, error) {}
	}
	return &Transactions{o}, nil
}

// NewTransaction is what somebody wants to do.
type NewTransaction struct {
	ClientID  string
	StartedBy uuid.UUID
	MandateID uuid.UUID // uuid.Nil: the customer's own
	Details   storage.TransactionDetails
	Lifetime  time.Duration // 0: as long as any may
	Key       string        // the same one starts nothing twice; "" for none
}

// Start stores what is to be approved and tells those who may. The details must be canonical (CheckDetails). It returns a *fapi.Error for what the
// customer may not start. One round trip.
func (x *Transactions) Start(ctx context.Context, n NewTransaction) (*storage.Transaction, error) {
	if n.Lifetime <= 0 || n.Lifetime > x.o.Limits.Lifetime {
		n.Lifetime = x.o.Limits.Lifetime
	}
	row := storage.NewTransaction{
		ID: storage.NewID(), Tenant: x.o.Tenant, ClientID: n.ClientID, StartedBy: n.StartedBy, MandateID: n.MandateID, Details: n.Details,
		RequestHash: requestHash(n), Lifetime: n.Lifetime, MaxOpen: x.o.Limits.MaxOpen, Every: x.every(),
	}
	row.Digest = Digest(row.ID, 1, n.Details)
	if n.Key != "" {
		sum := sha256.Sum256([]byte(n.Key))
		row.IdempotencyHash = sum[:]
	}
	made, err := x.o.DB.StartTransaction(ctx, row)
	return made, refusedTransaction(err)
}

// every is how long it takes until an approver may be told of one more.
func (x *Transactions) every() time.Duration { return time.Hour / time.Duration(x.o.Limits.Notices) }

// Find returns a transaction, whatever its status, after making sure that it is what its digest says. One round trip.
func (x *Transactions) Find(ctx context.Context, id uuid.UUID) (*storage.Transaction, error) {
	t, err := x.o.DB.FindTransaction(ctx, id)
	if err != nil {
		return nil, refusedTransaction(err)
	}
	return t, intact(t)
}

// intact fails for a row that was changed by other ways than ours.
func intact(t *storage.Transaction) error {
	if !bytes.Equal(t.Digest, Digest(t.ID, t.Revision, t.Details)) {
		return fmt.Errorf("consent: transaction %s is not what its digest says", t.ID)
	}
	return nil
}

// Approve records that a customer approves what they were shown, by a proof that an Authoriser has made of its digest. The status is
// storage.AwaitingApproval while others must approve too. One round trip.
func (x *Transactions) Approve(ctx context.Context, d storage.TransactionDecided, p storage.TransactionProof) (status string, err error) {
	status, err = x.o.DB.ApproveTransaction(ctx, d, p)
	return status, refusedTransaction(err)
}

// Consume lets a client do what was approved, once, if digest is that of what it is about to do. One round trip.
func (x *Transactions) Consume(ctx context.Context, id uuid.UUID, clientID string, digest []byte) error {
	return refusedTransaction(x.o.DB.ConsumeTransaction(ctx, id, clientID, digest))
}

// Digest is what approvals of a revision are bound to: SHA-256 over JSON as RFC 8785 has it (members in order, no space) of all that is shown.
func Digest(id uuid.UUID, revision int, d storage.TransactionDetails) []byte {
	var canonical bytes.Buffer
	encoder := json.NewEncoder(&canonical)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Amount       string `json:"amount"`
		Currency     string `json:"currency"`
		FromAccount  string `json:"from_account"`
		ID           string `json:"id"`
		PayeeAccount string `json:"payee_account"`
		PayeeName    string `json:"payee_name"`
		Reference    string `json:"reference"`
		Revision     int    `json:"revision"`
		Type         string `json:"type"`
	}{d.Amount, d.Currency, d.FromAccount, id.String(), d.PayeeAccount, d.PayeeName, d.Reference, revision, d.Type})
	if err != nil {
		panic(err) // texts and a number
	}
	sum := sha256.Sum256(bytes.TrimSuffix(canonical.Bytes(), []byte("\n")))
	return sum[:]
}

// requestHash tells two requests with one idempotency key apart.
func requestHash(n NewTransaction) []byte {
	sum := sha256.Sum256(fmt.Appendf(Digest(n.MandateID, 0, n.Details), "%s %d", n.StartedBy, n.Lifetime))
	return sum[:]
}

const (
	longestPayee     = 100
	longestAccount   = 64
	longestReference = 140
)

// CheckDetails makes details canonical, so that what is signed is what is shown, to the letter. It refuses what cannot be shown like that.
func CheckDetails(d *storage.TransactionDetails) error {
	var wrong []string
	amount, ok := fapi.Amount(d.Amount)
	if !ok {
		wrong = append(wrong, "amount")
	}
	d.Amount = amount
	if !fapi.IsCurrency(d.Currency) {
		wrong = append(wrong, "currency")
	}
	if !transactionTypes.MatchString(d.Type) {
		wrong = append(wrong, "type")
	}
	for _, text := range []struct {
		name, value string
		most        int
		needed      bool
	}{
		{"payee.name", d.PayeeName, longestPayee, true}, {"payee.account", d.PayeeAccount, longestAccount, true},
		{"from_account", d.FromAccount, longestAccount, false}, {"reference", d.Reference, longestReference, false},
	} {
		if text.needed && text.value == "" || web.Tidy(text.value, text.most) != text.value {
			wrong = append(wrong, text.name)
		}
	}
	if len(wrong) > 0 {
		return errDetails.Naming(wrong...)
	}
	return nil
}

// shownAmount is an amount as people read it: 1 250.50 EUR. The digits are those that are signed; a single decimal gets a zero.
func shownAmount(d storage.TransactionDetails) string {
	amount := d.Amount
	if _, fraction, _ := strings.Cut(amount, "."); len(fraction) == 1 {
		amount += "0"
	}
	return grouped(amount) + " " + d.Currency
}
