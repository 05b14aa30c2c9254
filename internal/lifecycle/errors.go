package lifecycle

import (
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is. Kinds are few: they are the types of Temporal
// application errors, decide HTTP statuses and exit codes, and stand in JSON as "kind".
type Kind string

const (
	Invalid      Kind = "Invalid"      // what was given cannot be meant; the message names the field and the way out
	NotFound     Kind = "NotFound"     // a named thing does not exist
	Busy         Kind = "Busy"         // somebody else holds the claim; the message names the holder
	Fenced       Kind = "Fenced"       // a newer fence exists: this holder may change nothing any more
	Refused      Kind = "Refused"      // policy, role or the database says no
	Conflict     Kind = "Conflict"     // the thing exists already with other content
	Regress      Kind = "Regress"      // a gate proved a drop
	Underpowered Kind = "Underpowered" // a gate could not tell
	Corrupt      Kind = "Corrupt"      // bytes do not match their digest
	Unavailable  Kind = "Unavailable"  // infrastructure or a judge did not answer; trying again may help
	Internal     Kind = "Internal"     // anything else
)

// Error is a failure with its kind. Fields carries what a program wants to read without parsing the
// message, for example the holder of a claim; it never carries a secret, a prompt or an answer.
type Error struct {
	Kind    Kind              `json:"kind"`
	Message string            `json:"message"`
	Fields  map[string]string `json:"fields,omitempty"`
	Err     error             `json:"-"`
}

// Error gives the message followed by the cause, if there is one.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	if e.Message == "" {
		return e.Err.Error()
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind. A cause given with %w is kept as the chain of fmt.Errorf.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap adds what was being tried to err and keeps err's kind. Nil stays nil.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	e := &Error{Kind: KindOf(err), Message: fmt.Sprintf(format, args...), Err: err}
	var inner *Error
	if errors.As(err, &inner) {
		e.Fields = inner.Fields
	}
	return e
}

// KindOf gives err's kind: that of the outermost Error in its chain, Internal where there is none,
// and "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is says whether err is of a kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Retryable says whether trying the same thing again may help.
func (k Kind) Retryable() bool { return k == Unavailable || k == Internal }

// ExitCode is the exit code of a command that ended with an error of this kind.
func (k Kind) ExitCode() int {
	switch k {
	case "":
		return 0
	case Invalid, NotFound:
		return 2
	case Regress:
		return 3
	case Underpowered:
		return 4
	case Busy, Fenced, Refused, Conflict:
		return 5
	default:
		return 1
	}
}

// HTTPStatus is the status of an HTTP problem of this kind, as a number: a word knows no network.
func (k Kind) HTTPStatus() int {
	switch k {
	case "":
		return 200
	case Invalid:
		return 400
	case NotFound:
		return 404
	case Busy, Conflict, Fenced:
		return 409
	case Refused:
		return 403
	case Regress, Underpowered:
		return 422
	case Unavailable:
		return 503
	default:
		return 500
	}
}
