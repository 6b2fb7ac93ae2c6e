package storage

import "fmt"

// TransactionPurpose is that of codes that are good for one transaction, bound to its digest.
const TransactionPurpose = "transaction"

const (
	linkedCodeSQL = `proof AS (
    UPDATE one_time_codes o SET code = NULL FROM t, second_factors f
    WHERE t.verdict = 'may' AND o.customer_id = $2 AND o.id = $7 AND o.purpose = '` + TransactionPurpose + `' AND o.binding = $3
      AND o.code IS NOT NULL AND o.expires_at > now() AND f.id = $8 AND f.customer_id = $2 AND f.confirmed_at IS NOT NULL
    RETURNING o.customer_id
), used AS (
    UPDATE second_factors f SET last_used_at = now() FROM proof WHERE f.id = $8
)`

	unlinkedStepSQL = `proof AS (
    UPDATE second_factors f SET last_step = $8, last_used_at = now() FROM t
    WHERE t.verdict = 'may' AND f.id = $7 AND f.customer_id = $2 AND f.confirmed_at IS NOT NULL AND f.last_step < $8
    RETURNING f.customer_id
)`
)

func approving(proof string) string { return fmt.Sprintf(approveTransactionSQL, proof) }

// LinkedCode is a TransactionProof by a code that was sent for the transaction alone, to a factor's address.
type LinkedCode struct {
	Factor *SecondFactor
	Code   *OneTimeCode
}

func (l LinkedCode) useUpFor() (kind, sql string, args []any) {
	return l.Factor.Kind, linkedCodeSQL, []any{[16]byte(l.Code.ID), [16]byte(l.Factor.ID)}
}

// UnlinkedStep is a TransactionProof by a code that counts (RFC 6238), which says nothing of the transaction: only for
// institutions that want so.
type UnlinkedStep CountedCode

func (u UnlinkedStep) useUpFor() (kind, sql string, args []any) {
	return u.Factor.Kind, unlinkedStepSQL, []any{[16]byte(u.Factor.ID), u.Step}
}

// LinkedPasskey is a TransactionProof by a passkey whose answer, bound to the digest, was used up already.
type LinkedPasskey struct{ Factor *SecondFactor }

const linkedPasskeySQL = `proof AS (
    SELECT f.customer_id FROM t, second_factors f
    WHERE t.verdict = 'may' AND f.id = $7 AND f.customer_id = $2 AND f.confirmed_at IS NOT NULL
)`

func (l LinkedPasskey) useUpFor() (kind, sql string, args []any) {
	return l.Factor.Kind, linkedPasskeySQL, []any{[16]byte(l.Factor.ID)}
}
