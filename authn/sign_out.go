package authn

import "net/http"

// signOut answers POST /sign-out.
func (a *Authn) signOut(w http.ResponseWriter, r *http.Request) {
	if err := a.End(w, r); err != nil {
		a.fail(w, r, err)
		return
	}
	a.goOn(w, r, "/login")
}

// End ends the visitor's login and its session, if there is one, and takes the cookie away. One round trip.
func (a *Authn) End(w http.ResponseWriter, r *http.Request) error {
	if hash := a.LoginHash(r); hash != nil {
		if err := a.db.EndLogin(r.Context(), hash); err != nil {
			return err
		}
		a.log.Info("login.ended")
	}
	setCookie(w, "")
	return nil
}
