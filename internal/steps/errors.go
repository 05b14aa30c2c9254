package steps

import (
	"errors"

	"go.temporal.io/sdk/temporal"

	"github.com/refitml/refit/internal/lifecycle"
)

// ToTemporal gives err the form in which it crosses a workflow boundary: an application error whose
// type is the error's kind, with the fields as details. A sentinel would not survive the way. Errors
// that Temporal made itself pass unchanged.
func ToTemporal(err error) error {
	if err == nil || isTemporal(err) {
		return err
	}
	kind := lifecycle.KindOf(err)
	var typed *lifecycle.Error
	var fields map[string]string
	if errors.As(err, &typed) {
		fields = typed.Fields
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), temporal.ApplicationErrorOptions{
		NonRetryable: !kind.Retryable(),
		Details:      []any{fields},
	})
}

// FromTemporal gives an error of Refit's kinds for one that came back from a step, a child or a
// finished workflow. Nil stays nil.
func FromTemporal(err error) error {
	if err == nil {
		return nil
	}
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() == "" {
		return err
	}
	typed := &lifecycle.Error{Kind: lifecycle.Kind(app.Type()), Message: app.Message()}
	if app.HasDetails() {
		_ = app.Details(&typed.Fields) // details are a convenience; the message says it all
	}
	return typed
}

// KindOf gives the kind of an error that came back from a step or a child.
func KindOf(err error) lifecycle.Kind { return lifecycle.KindOf(FromTemporal(err)) }

func isTemporal(err error) bool {
	var app *temporal.ApplicationError
	var canceled *temporal.CanceledError
	return errors.As(err, &app) || errors.As(err, &canceled)
}
