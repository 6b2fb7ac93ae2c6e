package consent

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/fapi"
	"github.com/countersign/countersign/storage"
)

// Members of the bodies. What is in none of these is refused: it would not be shown, so nobody could approve it.
var (
	detailMembers  = []string{"amount", "currency", "payee", "from_account", "reference"}
	startMembers   = append([]string{"type", "mandate", "sub", "expires_in"}, detailMembers...)
	changeMembers  = detailMembers
	consumeMembers = append([]string{"digest"}, detailMembers...)
)

// transactionRequest is a body of the API: texts by their names, "payee.name" among them.
type transactionRequest struct {
	texts    map[string]string
	sub      string
	mandate  uuid.UUID
	lifetime time.Duration
	digest   []byte // nil: there is none
}

func readTransaction(r *http.Request, members []string) (*transactionRequest, error) {
	body, err := readJSON(r)
	if err != nil {
		return nil, err
	}
	return parseTransaction(body, members)
}

func parseTransaction(body []byte, members []string) (*transactionRequest, error) {
	root, err := parseTree(body)
	if err != nil || root.kind != isObject {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The body must be a JSON object, with no member twice.").Because(err)
	}
	q := &transactionRequest{texts: map[string]string{}}
	for i := range root.members {
		m := &root.members[i]
		if !slices.Contains(members, m.name) {
			return nil, fapi.Refuse(fapi.InvalidRequest, "The body has a member that is none of this call's.")
		}
		if err := q.member(m); err != nil {
			return nil, err
		}
	}
	if q.digest != nil && len(q.texts) > 0 {
		return nil, fapi.Refuse(fapi.InvalidRequest, "The body has the digest or all details, not both.")
	}
	return q, nil
}

func (q *transactionRequest) member(m *member) error {
	wrong := errDetails.Naming(m.name)
	switch m.name {
	case "payee":
		if m.kind != isObject {
			return wrong
		}
		for _, part := range m.members {
			if part.kind != isString || part.name != "name" && part.name != "account" {
				return wrong
			}
			q.texts["payee."+part.name] = part.text
		}
		return nil
	case "expires_in":
		seconds, err := strconv.ParseUint(m.text, 10, 31)
		if m.kind != isNumber || err != nil || seconds == 0 {
			return wrong
		}
		q.lifetime = time.Duration(seconds) * time.Second
		return nil
	}
	if m.kind != isString {
		return wrong
	}
	var err error
	switch m.name {
	case "sub":
		q.sub = m.text
	case "mandate":
		if !isUUID(m.text) {
			return wrong
		}
		q.mandate = uuid.MustParse(m.text)
	case "digest":
		if q.digest, err = base64.RawURLEncoding.Strict().DecodeString(m.text); err != nil || len(q.digest) != 32 {
			return wrong
		}
	default:
		q.texts[m.name] = m.text
	}
	return nil
}

// over are details with what the request says in their place.
func (q *transactionRequest) over(d storage.TransactionDetails) storage.TransactionDetails {
	for name, member := range map[string]*string{
		"type": &d.Type, "amount": &d.Amount, "currency": &d.Currency, "payee.name": &d.PayeeName, "payee.account": &d.PayeeAccount,
		"from_account": &d.FromAccount, "reference": &d.Reference,
	} {
		if text, given := q.texts[name]; given {
			*member = text
		}
	}
	return d
}
