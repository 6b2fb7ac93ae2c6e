// Package errorsx holds what fosite asks of github.com/ory/x/errorsx.
package errorsx

import "errors"

// WithStack returns err as it is: the server logs causes, not stacks.
func WithStack(err error) error { return err }

// Cause returns the innermost error that err wraps.
func Cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// The carriers are details that an error may offer to whoever writes it out.
type (
	StatusCodeCarrier interface{ StatusCode() int }
	RequestIDCarrier  interface{ RequestID() string }
	ReasonCarrier     interface{ Reason() string }
	DebugCarrier      interface{ Debug() string }
	StatusCarrier     interface{ Status() string }
	DetailsCarrier    interface{ Details() map[string]any }
)
