package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// How a customer proves that they want one transaction and no other (Regulation (EU) 2018/389, Article 5). What they prove it with
// is bound to the digest of all that they were shown, amount and payee included.

// Transactions is what an institution decides about approving them.
type Transactions struct {
	Rules    []TransactionRule // beside that of ApprovePayment; all that apply hold
	Unlinked []string          // kinds of factors taken although their codes say nothing of amount and payee: "totp", or none
	Password bool              // a transaction password is asked for, too
}

// TransactionRule is what a login must be, and what does not do as a proof, for some amounts.
type TransactionRule struct {
	Above fapi.AmountLimits `yaml:"above"` // amounts of a currency that is not here are above too
	Rule  `yaml:",inline"`
}

func (t Transactions) check(kinds []string) error {
	var wrong []error
	for _, r := range t.Rules {
		if err := r.Above.Check(); err != nil {
			wrong = append(wrong, fmt.Errorf("transactions: %w", err))
		}
		if err := r.Rule.check(ApprovePayment, kinds); err != nil {
			wrong = append(wrong, fmt.Errorf("transactions: %w", err))
		}
		if len(r.Customers) > 0 {
			wrong = append(wrong, fmt.Errorf("transactions: what some customers need besides is in the policy of %s", ApprovePayment))
		}
	}
	for _, kind := range t.Unlinked {
		if kind != storage.TOTP {
			wrong = append(wrong, fmt.Errorf("transactions: codes of the kind %q are tied to what they approve, or never do for it", kind))
		}
	}
	return errors.Join(wrong...)
}

// TransactionRule is the rule for an amount: the strictest of all that apply.
func (a *Authn) TransactionRule(amount, currency string) Rule {
	strictest := a.Rule(ApprovePayment)
	for _, r := range a.config.Transactions.Rules {
		if r.Above.Above(amount, currency) {
			strictest = strictest.and(r.Rule)
		}
	}
	return strictest
}

// WantsTransactionPassword tells whether the institution asks for one.
func (a *Authn) WantsTransactionPassword() bool { return a.config.Transactions.Password }

// TransactionFactor is a factor by which a customer can approve a transaction.
type TransactionFactor struct {
	*storage.SecondFactor
	To Destination // of its codes; zero when none are sent
}

// Sends tells whether a code must be sent first.
func (f TransactionFactor) Sends() bool { return f.To != Destination{} }

// TransactionFactors are those of a visitor's that do under a rule: by which an approval is tied to what is approved, and those that
// the institution takes all the same.
func (a *Authn) TransactionFactors(v *storage.Visitor, rule Rule) (does []TransactionFactor, err error) {
	if rule, err = rule.of(&v.Customer); err != nil {
		return nil, err
	}
	for _, f := range v.Confirmed() {
		if slices.Contains(rule.Without, f.Kind) {
			continue
		}
		switch kind := a.kind(f.Kind).(type) {
		case sentFactor:
			to, err := kind.destination(f)
			if err != nil {
				return nil, err
			}
			if a.sends(kind.channel) {
				does = append(does, TransactionFactor{f, to})
			}
		case nil:
		default:
			if f.Kind == storage.Passkey && a.passkeys != nil || slices.Contains(a.config.Transactions.Unlinked, f.Kind) {
				does = append(does, TransactionFactor{SecondFactor: f})
			}
		}
	}
	return does, nil
}

// SendTransactionCode sends a code that is good for a digest alone, in words that say what it approves. It returns ErrTooManyCodes or
// ErrNoChannel. One round trip.
func (a *Authn) SendTransactionCode(ctx context.Context, v *storage.Visitor, f TransactionFactor, digest []byte, words func(code string, lifetime time.Duration) (subject, text string)) error {
	return a.SendCode(ctx, CodeRequest{CustomerID: v.CustomerID, To: f.To, Purpose: storage.TransactionPurpose, Binding: digest, Compose: words})
}

// CheckTransactionCode checks a code that was sent for a digest or, where the institution wants so, an app's. It returns ErrWrongCode,
// or a *Blocked. One round trip, two for an app's.
func (a *Authn) CheckTransactionCode(ctx context.Context, v *storage.Visitor, f TransactionFactor, digest []byte, typed string) (storage.TransactionProof, error) {
	if f.Sends() {
		code, err := a.CheckCode(ctx, v.CustomerID, storage.TransactionPurpose, digest, typed)
		if err != nil {
			return nil, a.wrongTransactionCode(v, f, err)
		}
		return storage.LinkedCode{Factor: f.SecondFactor, Code: code}, nil
	}
	if f.Kind != storage.TOTP {
		return nil, ErrWrongCode
	}
	attempts := a.PerCustomer("transaction code", v.CustomerID.String())
	if err := a.Attempt(ctx, "transaction", attempts); err != nil {
		return nil, err
	}
	step, ok := totp(f.Secret).verify(digits(typed), a.now())
	if !ok {
		return nil, a.wrongTransactionCode(v, f, ErrWrongCode)
	}
	return storage.UnlinkedStep{Factor: f.SecondFactor, Step: step}, a.Forgive(ctx, attempts)
}

// wrongTransactionCode tells those who watch the server of a wrong code.
func (a *Authn) wrongTransactionCode(v *storage.Visitor, f TransactionFactor, err error) error {
	if errors.Is(err, ErrWrongCode) {
		a.refused("transaction", "wrong")
		a.log.Warn("transaction.refused", zap.Stringer("customer", v.CustomerID), zap.String("kind", f.Kind))
	}
	return err
}

// CheckTransactionPasskey checks a passkey's answer to a challenge that was made for a digest (BeginPasskey with
// storage.TransactionPurpose), and uses it up. The errors are those of FinishPasskey. One round trip.
func (a *Authn) CheckTransactionPasskey(ctx context.Context, v *storage.Visitor, digest []byte, state string, response []byte) (storage.TransactionProof, error) {
	f, err := a.FinishPasskey(ctx, v, storage.TransactionPurpose, digest, state, response)
	if err != nil {
		return nil, err
	}
	return storage.LinkedPasskey{Factor: f}, nil
}

// RetryAfter is what a customer reads who has to wait, and tells programs the same; false for an error that is no *Blocked.
func (a *Authn) RetryAfter(w http.ResponseWriter, err error) (text string, blocked bool) {
	return a.retryAfter(w, err)
}

// Visit is where a request comes from.
func (a *Authn) Visit(r *http.Request) storage.Visit { return visitOf(r) }
