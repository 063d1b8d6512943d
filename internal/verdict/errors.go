package verdict

import (
	"context"
	"errors"
)

// codedError carries a reason code with an error, so that the place that knows
// names it and main classifies once.
type codedError struct {
	code string
	err  error
}

func (e codedError) Error() string { return e.err.Error() }
func (e codedError) Unwrap() error { return e.err }

// Coded attaches a reason code to err. A nil err stays nil.
func Coded(code string, err error) error {
	if err == nil {
		return nil
	}
	return codedError{code, err}
}

// Usage marks err as the caller's mistake: exit code 2.
func Usage(err error) error { return Coded(BadUsage, err) }

// FromError makes the result of a command that broke. A cancelled context is
// told apart from a failure, a usage error from both.
func FromError(err error) Result {
	code := Failed
	var coded codedError
	switch {
	case errors.As(err, &coded):
		code = coded.code
	case errors.Is(err, context.Canceled):
		code = Cancelled
	}
	r := of(Error, code, "%s", err.Error())
	return r
}
