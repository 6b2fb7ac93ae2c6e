package authn

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// Who has lost the password gets a code by email, to the address that is known to be theirs, and types it with a new password into the
// browser in which they asked. The mailbox stands for the old password, not for the second factor: whoever has one shows it too, before
// the new password counts, and it must not be that mailbox again.
//
// Nobody learns at these pages who is a customer: for a name that is nobody's, or of a customer who cannot be written to, the same
// happens, but for the mail and for a code that would be right.

const (
	recoverPath     = "/recover"
	recoverCodePath = "/recover/code"

	recoveryCookie   = "__Host-recovery"
	recoveryLifetime = 15 * time.Minute
	recoveryLetters  = 10 // of invitationAlphabet: 49 bits
	recoveryAttempts = 10
	recoveredBy      = storage.EmailFactor
)

// errBranch says that a customer cannot recover by themselves, since nothing but their mailbox would prove who they are.
var errBranch = errors.New("authn: the customer has no other second factor")

// recoveryPages are the addresses at which a lost password is replaced.
func (a *Authn) recoveryPages() map[string]methods {
	return map[string]methods{
		recoverPath:     {http.MethodGet: a.showRecover, http.MethodPost: a.askRecovery},
		recoverCodePath: {http.MethodGet: a.showRecoverCode, http.MethodPost: a.recoverCode},
	}
}

// showRecover answers GET /recover.
func (a *Authn) showRecover(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	a.recoverPage(w, r, view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK})
}

// recoverPage asks for the user name; where no mail can be sent it says where to go.
func (a *Authn) recoverPage(w http.ResponseWriter, r *http.Request, v view) {
	back := v.link("/login")
	if !v.journey.alone() {
		back = v.next()
	}
	a.shown(r, a.pages.Recover(w, v.status, web.Recover{
		Action: recoverPath, Hidden: v.hidden(), Client: v.client, Problem: v.problem, Username: v.username, LoginURL: back, Branch: !a.sends(ChannelEmail),
	}))
}

// askRecovery answers POST /recover, whoever is asked for, in the same way, at fixed intervals. Four round trips.
func (a *Authn) askRecovery(w http.ResponseWriter, r *http.Request) {
	start := a.now()
	form, j, ok := a.readForm(w, r, "username")
	if !ok {
		return
	}
	typed := strings.TrimSpace(form.Get("username"))
	if typed == "" || !a.sends(ChannelEmail) {
		a.recoverPage(w, r, a.again(r, j, http.StatusUnprocessableEntity, "problem.missing"))
		return
	}
	err := a.beginRecovery(w, r, typed)
	if err != nil && !errors.Is(err, errRefused) {
		a.fail(w, r, err)
		return
	}
	if !a.atInterval(r.Context(), start) {
		return
	}
	if text, blocked := a.retryAfter(w, err); blocked {
		v := a.again(r, j, http.StatusTooManyRequests, "")
		v.problem, v.username = text, typed
		a.recoverPage(w, r, v)
		return
	}
	a.goOn(w, r, j.link(recoverCodePath))
}

func (a *Authn) beginRecovery(w http.ResponseWriter, r *http.Request, typed string) error {
	ctx := r.Context()
	name, err := normalizeUsername(typed)
	if err != nil {
		name = "" // nobody's, and looked up all the same
	}
	c, err := a.db.FindCredentials(ctx, a.config.Tenant, name, visitOf(r))
	if err != nil {
		return err
	}
	if err := a.Attempt(ctx, "recovery", a.PerAddress("recovery", r), a.perRecovery(c)); err != nil {
		return err
	}
	p := storage.Profile{}
	known, err := a.db.FindCustomer(ctx, a.config.Tenant, name)
	if err == nil {
		p, err = known.Profile()
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return err
	}
	value, hash := newCookie()
	recovery := storage.Recovery{Hash: hash, PasswordHash: c.PasswordHash, Bucket: c.Bucket}
	if p.EmailVerified && p.Email != "" && c.PasswordHash != "" && !c.Disabled {
		recovery.CustomerID = c.CustomerID
	}
	code := newCode(recoveryLetters, invitationAlphabet)
	if err := a.db.BeginRecovery(ctx, recovery, visitOf(r), code, recoveryLifetime, a.recoveryMessage(p, code)); err != nil {
		return err
	}
	setBrowserCookie(w, recoveryCookie, value, recoveryLifetime)
	a.log.Info("recovery.begun", zap.Stringer("customer", recovery.CustomerID))
	return nil
}

// perRecovery is where the mails that are asked for a customer are counted: in a browser that the customer is known by, for it alone, so
// that nobody else can use them up.
func (a *Authn) perRecovery(c *storage.Credentials) storage.Bucket {
	return storage.Bucket{Key: a.db.BucketKey("recovery customer", string(c.Bucket)), Limit: storage.Limit{
		Free: a.config.CodesPerHour, First: a.config.FirstBlock, Most: a.config.LongestBlock, Forget: time.Hour / time.Duration(a.config.CodesPerHour),
	}}
}

func (a *Authn) recoveryMessage(p storage.Profile, code string) storage.Message {
	shown := code[:recoveryLetters/2] + "-" + code[recoveryLetters/2:]
	return storage.Message{Channel: ChannelEmail, To: p.Email, ExpiresAt: a.now().Add(recoveryLifetime), Subject: a.pages.Text("recover.message.subject", "bank", a.config.Issuer),
		Text: a.pages.Text("recover.message.text", "bank", a.config.Issuer, "code", shown)}
}

// showRecoverCode answers GET /recover/code.
func (a *Authn) showRecoverCode(w http.ResponseWriter, r *http.Request) {
	j, err := readJourney(r.URL.Query())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest)
		return
	}
	a.recoverCodePage(w, r, view{journey: j, client: a.client(r.Context(), j), status: http.StatusOK})
}

func (a *Authn) recoverCodePage(w http.ResponseWriter, r *http.Request, v view) {
	if browserCookie(r, recoveryCookie) == nil {
		a.goOn(w, r, v.link(recoverPath))
		return
	}
	a.shown(r, a.pages.RecoverCode(w, v.status, web.RecoverCode{
		Action: recoverCodePath, Hidden: v.hidden(), Client: v.client, Problem: v.problem, AgainURL: v.link(recoverPath),
	}))
}

// recoverCode answers POST /recover/code: the code from the mail, and the new password.
func (a *Authn) recoverCode(w http.ResponseWriter, r *http.Request) {
	form, j, ok := a.readForm(w, r, "code", "password")
	if !ok {
		return
	}
	code, password := typedInvitation(form.Get("code")), form.Get("password")
	if code == "" || password == "" {
		a.recoverCodePage(w, r, a.again(r, j, http.StatusUnprocessableEntity, "problem.missing"))
		return
	}
	complete, err := a.recovered(w, r, code, password)
	text, blocked := a.retryAfter(w, err)
	switch {
	case blocked:
		v := a.again(r, j, http.StatusTooManyRequests, "")
		v.problem = text
		a.recoverCodePage(w, r, v)
	case errors.Is(err, storage.ErrNotFound):
		a.refused("recovery", "wrong")
		a.log.Warn("recovery.refused")
		a.recoverCodePage(w, r, a.again(r, j, http.StatusForbidden, "problem.recovery"))
	case errors.Is(err, errBranch):
		a.refused("recovery", "no_factor")
		a.shown(r, a.pages.Done(w, http.StatusForbidden, web.Done{Title: a.pages.Text("recover.branch.title"), Text: a.pages.Text("recover.branch.text")}))
	case newCustomerProblem(err) != "":
		a.recoverCodePage(w, r, a.again(r, j, http.StatusUnprocessableEntity, newCustomerProblem(err)))
	case err != nil:
		a.fail(w, r, err)
	case complete:
		a.shown(r, a.pages.Done(w, http.StatusOK, web.Done{
			Title: a.pages.Text("recover.done.title"), Text: a.pages.Text("recover.done.text"), LinkText: a.pages.Text("recover.done.link"), LinkURL: j.next(),
		}))
	default:
		a.goOn(w, r, j.link("/login/second-factor"))
	}
}

// recovered checks a code and the new password. It returns whether that password counts already; otherwise the browser has a login that
// lacks the second factor. It returns storage.ErrNotFound for a wrong code, errBranch, ErrBusy, one of the ErrPassword… or a *Blocked.
func (a *Authn) recovered(w http.ResponseWriter, r *http.Request, code, password string) (complete bool, err error) {
	ctx := r.Context()
	if a.hasher.busy() {
		return false, ErrBusy
	}
	if err := a.Attempt(ctx, "recovery", a.PerAddress("recovery code", r)); err != nil {
		return false, err
	}
	recovery := browserCookie(r, recoveryCookie)
	id, err := a.db.TryRecovery(ctx, recovery, visitOf(r), code, recoveryAttempts)
	if err != nil {
		return false, err
	}
	c, err := a.db.CustomerByID(ctx, id)
	if err != nil {
		return false, err
	}
	p, err := c.Profile()
	if err != nil {
		return false, err
	}
	more := len(c.SecondFactors) > 0
	if more && !slices.ContainsFunc(c.SecondFactors, func(kind string) bool { return kind != recoveredBy && a.kind(kind) != nil }) {
		return false, errBranch
	}
	hash, err := a.hashFor(ctx, p, password)
	if err != nil {
		return false, err
	}
	notice := a.notice(p, "password_changed")
	if !more {
		e := storage.Event{CustomerID: id, Kind: "recovery.completed", Visit: visitOf(r)}
		if err := a.db.FinishRecovery(ctx, recovery, hash, e, notice); err != nil {
			return false, err
		}
		setCookie(w, "")
		setBrowserCookie(w, recoveryCookie, "", 0)
		return true, a.changed(e.Kind, id, nil)
	}
	return false, a.continueRecovery(w, r, recovery, id, hash, notice)
}

// continueRecovery makes the login that lacks the second factor. Wrong ones count where nobody else's do who has not the mailbox.
func (a *Authn) continueRecovery(w http.ResponseWriter, r *http.Request, recovery []byte, id uuid.UUID, newPassword string, notice *storage.Message) error {
	value, hash := newCookie()
	n := storage.NewLogin{Hash: hash, AMR: []string{amrOTP}, Lifetime: stepLifetime, Visit: a.visit(w, r), Bucket: a.PerCustomer("recovered", id.String()).Key}
	if err := a.db.ContinueRecovery(r.Context(), recovery, id, newPassword, n, notice); err != nil {
		return err
	}
	setCookie(w, value)
	setBrowserCookie(w, recoveryCookie, "", 0)
	a.log.Info("recovery.proven", zap.Stringer("customer", id))
	return nil
}

// hashFor checks and hashes a customer's new password. It returns one of the ErrPassword… or ErrBusy.
func (a *Authn) hashFor(ctx context.Context, p storage.Profile, password string) (string, error) {
	name, err := normalizeUsername(p.Username)
	if err != nil {
		return "", err
	}
	return a.newHash(ctx, NewCustomer{Profile: p, Password: password}, name)
}
