package authn

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/countersign/countersign/storage"
	"github.com/countersign/countersign/web"
)

// An invitation is the bank's word that somebody is a client of the core. Its code, which the branch hands out, makes a new
// customer, or links one who has access already. Who lost the code but has shown that the core's email address or phone number is
// theirs, links with a code that is sent there.

const (
	invitationPage   = "/invitation"
	invitationSignUp = "/invitation/sign-up"
	fieldInvitation  = "invitation"

	invitationAlphabet = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789" // none that is taken for another
	invitationLength   = 12                                 // 60 bits
	linkPurpose        = "link"

	// InvitationLifetime is how long an invitation is good for unless the bank says otherwise.
	InvitationLifetime = 14 * 24 * time.Hour
)

// ErrInvitation is returned for what cannot be an invitation.
var ErrInvitation = errors.New("authn: an invitation needs a positive Fineract client id and a lifetime, and an address where it is to be sent")

// NewInvitation is an invitation to be made.
type NewInvitation struct {
	Tenant           string // "" for the one that logs in here
	FineractClientID int64
	Profile          storage.Profile // what the core knows; Email and PhoneNumber are its record
	Roles            []string        // none: USER
	Accounts         []storage.Account
	Lifetime         time.Duration // 0: InvitationLifetime

	// SendTo has the code sent to Profile.Email (ChannelEmail) or Profile.PhoneNumber (ChannelSMS), and told nobody else: who has it
	// has the address. Page is the address of /invitation, for the message.
	SendTo, Page string
}

// Invite makes an invitation. It returns the code as it is written on paper; "" when it was sent. It is not stored: nobody can read
// it again.
func (a *Authn) Invite(ctx context.Context, n NewInvitation) (code string, i *storage.Invitation, err error) {
	if n.Lifetime == 0 {
		n.Lifetime = InvitationLifetime
	}
	to := ""
	switch n.SendTo {
	case ChannelEmail:
		to, n.Profile.EmailVerified = n.Profile.Email, true
	case ChannelSMS:
		to, n.Profile.PhoneNumberVerified = storage.PhoneNumber(n.Profile.PhoneNumber), true
	}
	if n.FineractClientID <= 0 || n.Lifetime <= 0 || n.SendTo != "" && to == "" {
		return "", nil, ErrInvitation
	}
	if err := errors.Join(checkRoles(n.Roles), checkAccounts(n.Accounts), checkProfile(&n.Profile, &storage.Profile{})); err != nil {
		return "", nil, err
	}
	if n.Tenant == "" {
		n.Tenant = a.config.Tenant
	}
	i = &storage.Invitation{ID: storage.NewID(), Tenant: n.Tenant, FineractClientID: n.FineractClientID, Invited: storage.Invited{Profile: n.Profile, Roles: n.Roles}}
	i.Invited.SetAccounts(n.Accounts)
	plain := newCode(invitationLength, invitationAlphabet)
	code = shownInvitation(plain)
	var m *storage.Message
	if n.SendTo != "" {
		m = &storage.Message{Channel: n.SendTo, To: to, ExpiresAt: a.now().Add(n.Lifetime), Subject: a.pages.Text("invitation.message.subject", "bank", a.config.Issuer),
			Text: a.pages.Text("invitation.message.text", "bank", a.config.Issuer, "code", code, "page", n.Page)}
		code = ""
	}
	if err := a.db.CreateInvitation(ctx, i, plain, n.Lifetime, m); err != nil {
		return "", nil, err
	}
	a.log.Info("invitation.created", zap.Stringer("invitation", i.ID), zap.String("sent", n.SendTo))
	return code, i, nil
}

func shownInvitation(code string) string { return code[:4] + "-" + code[4:8] + "-" + code[8:] }

// typedInvitation is a code without what people put between its letters.
func typedInvitation(typed string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, strings.ToUpper(typed))
}

// invitationPages are the addresses at which invitations are taken.
func (a *Authn) invitationPages() map[string]methods {
	return map[string]methods{
		invitationPage:   {http.MethodGet: a.showInvitation, http.MethodPost: a.takeInvitation},
		invitationSignUp: {http.MethodPost: a.acceptInvitation},
	}
}

// linking finds who wants to be linked: nil for nobody, who becomes a new customer. It returns false when the visitor was asked for
// a better login.
func (a *Authn) linking(w http.ResponseWriter, r *http.Request) (*storage.Visitor, bool) {
	hash := a.LoginHash(r)
	if hash == nil {
		return nil, true
	}
	_, err := a.db.FindLogin(r.Context(), hash)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return nil, true
	case err != nil:
		a.fail(w, r, err)
		return nil, false
	}
	return a.Guard(w, r, ChangeProfile, invitationPage)
}

// showInvitation answers GET /invitation.
func (a *Authn) showInvitation(w http.ResponseWriter, r *http.Request) {
	if v, ok := a.linking(w, r); ok {
		a.invitationForm(w, r, v, web.Invitation{}, http.StatusOK)
	}
}

func (a *Authn) invitationForm(w http.ResponseWriter, r *http.Request, v *storage.Visitor, page web.Invitation, status int) {
	page.Action = invitationPage
	if v == nil {
		page.LoginURL = LoginURL(invitationPage)
	} else {
		p, err := v.Customer.Profile()
		if err != nil {
			a.fail(w, r, err)
			return
		}
		if page.Customer = p.Name; page.Customer == "" {
			page.Customer = p.Username
		}
		page.CanSend = p.EmailVerified && a.sends(ChannelEmail) || p.PhoneNumberVerified && a.sends(ChannelSMS)
	}
	a.shown(r, a.pages.Invitation(w, status, page))
}

// takeInvitation answers POST /invitation: an invitation's code; or, of a customer without it, that a code be sent, and that code.
func (a *Authn) takeInvitation(w http.ResponseWriter, r *http.Request) {
	form, _, ok := a.readForm(w, r)
	if !ok {
		return
	}
	v, ok := a.linking(w, r)
	if !ok {
		return
	}
	var i *storage.Invitation
	err := a.Attempt(r.Context(), "invitation", a.PerAddress("invitation", r))
	page := web.Invitation{}
	switch {
	case err != nil:
	case v != nil && form.Has("send"):
		if err = a.sendLinkCode(r.Context(), v); err == nil {
			a.invitationForm(w, r, v, web.Invitation{Sent: true}, http.StatusOK)
			return
		}
	case v != nil && form.Has("code"):
		page.Sent = true
		i, err = a.provenInvitation(r.Context(), v.CustomerID, form.Get("code"))
	default:
		i, err = a.db.FindInvitation(r.Context(), a.config.Tenant, typedInvitation(form.Get(fieldInvitation)))
	}
	if err == nil && v == nil {
		a.invitedPage(w, r, i, form, "", http.StatusOK)
		return
	}
	if err == nil {
		err = a.db.LinkInvitation(r.Context(), i, v.CustomerID, a.mostPerClient(), storage.Event{Kind: "customer.linked", Visit: visitOf(r)})
	}
	if err != nil {
		a.refuseInvitation(w, r, v, page, err)
		return
	}
	a.log.Info("customer.linked", zap.Stringer("customer", v.CustomerID), zap.Stringer("invitation", i.ID))
	a.shown(r, a.pages.Done(w, http.StatusOK, web.Done{
		Title: a.pages.Text("invitation.done.title"), Text: a.pages.Text("invitation.done.text"),
		LinkText: a.pages.Text("invitation.done.link"), LinkURL: "/consents",
	}))
}

// refuseInvitation shows the page again. A code that is wrong, expired, used or another tenant's reads the same.
func (a *Authn) refuseInvitation(w http.ResponseWriter, r *http.Request, v *storage.Visitor, page web.Invitation, err error) {
	status := http.StatusForbidden
	text, blocked := a.retryAfter(w, err)
	switch {
	case blocked:
		page.Problem, status = text, http.StatusTooManyRequests
	case errors.Is(err, ErrWrongCode):
		page.Problem = a.pages.Text("problem.code")
	case errors.Is(err, storage.ErrNotFound):
		page.Problem = a.pages.Text("problem.invitation")
	case errors.Is(err, storage.ErrClientTaken):
		page.Problem, status = a.pages.Text("problem.client_taken"), http.StatusConflict
	default:
		a.fail(w, r, err)
		return
	}
	a.invitationForm(w, r, v, page, status)
}

// sendLinkCode sends a code to the address of the customer's that an invitation has too. That there is none, nobody is told.
func (a *Authn) sendLinkCode(ctx context.Context, v *storage.Visitor) error {
	i, err := a.db.InvitationFor(ctx, v.CustomerID)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := v.Customer.Profile()
	if err != nil {
		return err
	}
	to, record := Destination{ChannelEmail, p.Email}, &i.Invited.Profile
	if !p.EmailVerified || !strings.EqualFold(p.Email, record.Email) || !a.sends(ChannelEmail) {
		to = Destination{ChannelSMS, storage.PhoneNumber(record.PhoneNumber)}
		if !p.PhoneNumberVerified || storage.PhoneNumber(p.PhoneNumber) != to.Address {
			return nil
		}
	}
	err = a.SendCode(ctx, CodeRequest{CustomerID: v.CustomerID, To: to, Purpose: linkPurpose, Binding: i.ID[:]})
	if errors.Is(err, ErrTooManyCodes) || errors.Is(err, ErrNoChannel) {
		return nil
	}
	return err
}

// provenInvitation is the one whose address got the code that the customer typed.
func (a *Authn) provenInvitation(ctx context.Context, customer uuid.UUID, typed string) (*storage.Invitation, error) {
	i, err := a.db.InvitationFor(ctx, customer)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, ErrWrongCode
	}
	if err != nil {
		return nil, err
	}
	c, err := a.CheckCode(ctx, customer, linkPurpose, i.ID[:], typed)
	if err != nil {
		return nil, err
	}
	return i, a.UseCode(ctx, c)
}

// invitedPage is the form of a new customer, with what the bank knows of them filled in.
func (a *Authn) invitedPage(w http.ResponseWriter, r *http.Request, i *storage.Invitation, form url.Values, problem string, status int) {
	p := &i.Invited.Profile
	page := web.SignUp{
		Action: invitationSignUp, Hidden: []web.Field{{Name: fieldInvitation, Value: form.Get(fieldInvitation)}}, Invited: true, Problem: problem,
		Name: p.Name, Username: form.Get("username"), Email: form.Get("email"), LoginURL: LoginURL(invitationPage),
	}
	if form.Has("name") {
		page.Name = form.Get("name")
	}
	if to := destinationOf(p); to.Address != "" {
		page.Masked = to.Masked()
	}
	a.shown(r, a.pages.SignUp(w, status, page))
}

// acceptInvitation answers POST /invitation/sign-up: the invited become a customer.
func (a *Authn) acceptInvitation(w http.ResponseWriter, r *http.Request) {
	form, _, ok := a.readForm(w, r, fieldInvitation, "username", "name", "password")
	if !ok {
		return
	}
	err := a.Attempt(r.Context(), "invitation", a.PerAddress("invitation", r))
	var i *storage.Invitation
	if err == nil {
		i, err = a.db.FindInvitation(r.Context(), a.config.Tenant, typedInvitation(form.Get(fieldInvitation)))
	}
	if err != nil {
		a.refuseInvitation(w, r, nil, web.Invitation{}, err)
		return
	}
	profile := i.Invited.Profile
	profile.Username, profile.Name = strings.TrimSpace(form.Get("username")), strings.TrimSpace(form.Get("name"))
	problem := a.applicantProblem(form, &profile)
	if problem == "" {
		err := a.accept(w, r, i, profile, form.Get("password"))
		if err == nil {
			a.goOn(w, r, journey{}.next())
			return
		}
		if problem = newCustomerProblem(err); problem == "" {
			a.refuseInvitation(w, r, nil, web.Invitation{}, err)
			return
		}
	}
	a.invitedPage(w, r, i, form, a.pages.Text(problem), http.StatusUnprocessableEntity)
}

func (a *Authn) accept(w http.ResponseWriter, r *http.Request, i *storage.Invitation, profile storage.Profile, password string) error {
	n, err := a.newCustomer(r.Context(), NewCustomer{
		Tenant: i.Tenant, Profile: profile, Password: password, FineractClientID: &i.FineractClientID, Roles: i.Invited.Roles, Accounts: i.Invited.ListAccounts(),
	})
	if err != nil {
		return err
	}
	if err := a.db.AcceptInvitation(r.Context(), i, n, storage.Event{Kind: "customer.linked", Visit: visitOf(r)}); err != nil {
		return err
	}
	a.created(n)
	a.log.Info("customer.linked", zap.Stringer("customer", n.ID), zap.Stringer("invitation", i.ID))
	return a.begin(w, r, &storage.Credentials{CustomerID: n.ID}, nil)
}
