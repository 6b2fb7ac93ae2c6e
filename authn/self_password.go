package authn

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// showPassword answers GET /self/password.
func (a *Authn) showPassword(w http.ResponseWriter, r *http.Request) {
	if v, ok := a.Guard(w, r, ChangePassword, passwordPath); ok {
		a.passwordPage(w, r, v, http.StatusOK, "")
	}
}

func (a *Authn) passwordPage(w http.ResponseWriter, r *http.Request, v *storage.Visitor, status int, problem string) {
	p, err := v.Customer.Profile()
	if err != nil {
		a.fail(w, r, err)
		return
	}
	has, err := a.HasPassword(r.Context(), v.CustomerID)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	page := web.SelfPassword{Own: a.own(w, r, p, ""), Username: p.Username, First: !has}
	page.Problem = cmp.Or(problem, page.Problem)
	a.shown(r, a.pages.SelfPassword(w, status, page))
}

// newPassword answers POST /self/password. The old one is asked for although the login is fresh: whoever sits at a browser that
// was left alone does not know it. A wrong one counts as at the login. Whoever has none, because another provider vouches for them,
// has shown a second factor of ours at least.
func (a *Authn) newPassword(w http.ResponseWriter, r *http.Request) {
	v, ok := a.guardForm(w, r, ChangePassword, passwordPath)
	if !ok {
		return
	}
	form, _, ok := a.readForm(w, r, "password")
	if !ok {
		return
	}
	if len(form["old_password"]) > 1 {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	err := a.replacePassword(r, v, form.Get("old_password"), form.Get("password"))
	if text, blocked := a.retryAfter(w, err); blocked {
		a.passwordPage(w, r, v, http.StatusTooManyRequests, text)
		return
	}
	for is, problem := range map[error]string{
		errRefused: "problem.old_password", errIncomplete: "problem.missing",
		ErrPasswordShort: "problem.password_short", ErrPasswordLong: "problem.password_weak", ErrPasswordWeak: "problem.password_weak",
	} {
		if errors.Is(err, is) {
			a.passwordPage(w, r, v, http.StatusUnprocessableEntity, a.pages.Text(problem))
			return
		}
	}
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.did(w, r, passwordPath, "password")
}

var errIncomplete = errors.New("authn: a field is empty")

// replacePassword returns what is wrong with the old password, which is counted, or with the new one.
func (a *Authn) replacePassword(r *http.Request, v *storage.Visitor, old, password string) error {
	if password == "" {
		return errIncomplete
	}
	ctx := r.Context()
	p, err := v.Customer.Profile()
	if err != nil {
		return err
	}
	was, err := a.oldPassword(r, v, p.Username, old)
	if err != nil {
		return err
	}
	hash, err := a.hashFor(ctx, p, password)
	if err != nil {
		return err
	}
	e := a.ownEvent(r, v, "password.changed", nil)
	err = a.db.ReplacePassword(ctx, storage.NewPasswordHash{Old: was, New: hash}, a.LoginHash(r), e, a.notice(p, "password_changed"))
	if errors.Is(err, storage.ErrNotFound) { // it was changed meanwhile
		return errRefused
	}
	return a.changed(e.Kind, v.CustomerID, err)
}

// oldPassword checks it, and returns its hash.
func (a *Authn) oldPassword(r *http.Request, v *storage.Visitor, username, old string) (hash string, err error) {
	if old != "" {
		c, _, err := a.checkCredentials(r.Context(), visitOf(r), username, old)
		if err != nil {
			return "", err
		}
		return c.PasswordHash, nil
	}
	hash, err = a.db.PasswordHash(r.Context(), v.CustomerID)
	if err == nil && !isNoPassword(hash) {
		err = errIncomplete
	}
	return hash, err
}
