package authn

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// The transaction password: what some institutions ask for beside the code. It is another one than that of the login.

const transactionPasswordPath = "/self/transaction-password"

// What is wrong with a transaction password.
var (
	ErrWrongTransactionPassword = errors.New("authn: not the transaction password")
	errSamePassword             = errors.New("authn: the transaction password is that of the login")
)

func (a *Authn) transactionPasswordRoutes() map[string]methods {
	if !a.config.Transactions.Password {
		return nil
	}
	return map[string]methods{transactionPasswordPath: {http.MethodGet: a.showTransactionPassword, http.MethodPost: a.changeTransactionPassword}}
}

// CheckTransactionPassword returns ErrWrongTransactionPassword unless the password is right, or a *Blocked after too many wrong ones.
// Three round trips.
func (a *Authn) CheckTransactionPassword(ctx context.Context, customer uuid.UUID, password string) error {
	attempts := a.PerCustomer("transaction password", customer.String())
	if err := a.Attempt(ctx, "transaction_password", attempts); err != nil {
		return err
	}
	_, hash, err := a.db.Passwords(ctx, customer)
	if err != nil {
		return err
	}
	if hash == "" || len(password) > longestPassword {
		return ErrWrongTransactionPassword
	}
	right, _, err := a.hasher.check(ctx, hash, normalizePassword(password))
	if err != nil {
		return err
	}
	if !right {
		a.refused("transaction_password", "wrong")
		a.log.Warn("transaction_password.refused", zap.Stringer("customer", customer))
		return ErrWrongTransactionPassword
	}
	return a.Forgive(ctx, attempts)
}

func (a *Authn) showTransactionPassword(w http.ResponseWriter, r *http.Request) {
	if v, ok := a.Guard(w, r, ChangePassword, transactionPasswordPath); ok {
		a.transactionPasswordPage(w, r, v, http.StatusOK, "")
	}
}

func (a *Authn) transactionPasswordPage(w http.ResponseWriter, r *http.Request, v *storage.Visitor, status int, problem string) {
	_, hash, err := a.db.Passwords(r.Context(), v.CustomerID)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.TransactionPassword{Action: transactionPasswordPath, Has: hash != "", Problem: problem, ListURL: "/transactions"}
	if r.URL.RawQuery == "saved" {
		page.Notice = a.pages.Text("transaction_password.saved")
	}
	a.shown(r, a.pages.TransactionPassword(w, status, page))
}

// changeTransactionPassword answers POST: who has one already shows it, beside the fresh login that it takes.
func (a *Authn) changeTransactionPassword(w http.ResponseWriter, r *http.Request) {
	form, _, ok := a.readForm(w, r, "password")
	if !ok {
		return
	}
	v, ok := a.Guard(w, r, ChangePassword, transactionPasswordPath)
	if !ok {
		return
	}
	err := a.setTransactionPassword(r.Context(), v, form.Get("current"), form.Get("password"), visitOf(r))
	for problem, text := range map[error]string{
		ErrWrongTransactionPassword: "problem.transaction_password", errSamePassword: "problem.same_password",
		ErrPasswordShort: "problem.password_short", ErrPasswordLong: "problem.password_long", ErrPasswordWeak: "problem.password_weak",
	} {
		if errors.Is(err, problem) {
			a.transactionPasswordPage(w, r, v, http.StatusUnprocessableEntity, a.pages.Text(text))
			return
		}
	}
	if wait, blocked := a.retryAfter(w, err); blocked {
		a.transactionPasswordPage(w, r, v, http.StatusTooManyRequests, wait)
		return
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.goOn(w, r, transactionPasswordPath+"?saved")
}

func (a *Authn) setTransactionPassword(ctx context.Context, v *storage.Visitor, current, password string, from storage.Visit) error {
	login, has, err := a.db.Passwords(ctx, v.CustomerID)
	if err != nil {
		return err
	}
	if has != "" {
		if err := a.CheckTransactionPassword(ctx, v.CustomerID, current); err != nil {
			return err
		}
	}
	profile, err := v.Customer.Profile()
	if err != nil {
		return err
	}
	password = normalizePassword(password)
	if err := checkPassword(password, profile.Username, profile.Name, profile.Email, a.config.Issuer); err != nil {
		return err
	}
	if login != "" {
		same, _, err := a.hasher.check(ctx, login, password)
		if err != nil {
			return err
		}
		if same {
			return errSamePassword
		}
	}
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return a.db.SetTransactionPassword(ctx, v.CustomerID, hash, storage.Event{CustomerID: v.CustomerID, Kind: "transaction_password.changed", Visit: from})
}
