package objects

import (
	"errors"
	"fmt"

	"larder/gateway"
	"larder/past"
)

// refusal carries an error of a Check, or of ours, through Update unchanged.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// fail turns an error of PAST into one of the gateway and says what was attempted. conditional operations whose outcome is
// unknown are conflicts, since the client may not take them for refused; of blind ones he may try again.
func fail(op string, conditional bool, err error) error {
	var refused refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused.error
	case errors.Is(err, past.ErrUnknown) && conditional:
		return fmt.Errorf("objects: %s: %w: %w", op, gateway.ErrConflict, err)
	case errors.Is(err, past.ErrUnknown), errors.Is(err, past.ErrUnavailable), errors.Is(err, past.ErrClosed):
		return fmt.Errorf("objects: %s: %w: %w", op, gateway.ErrUnavailable, err)
	case errors.Is(err, past.ErrNoSpace):
		return fmt.Errorf("objects: %s: %w: %w", op, gateway.ErrNoSpace, err)
	}
	return fmt.Errorf("objects: %s: %w", op, err)
}
