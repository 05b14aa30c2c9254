package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Role says what somebody may do. A role includes those before it.
type Role string

const (
	Viewer   Role = "viewer"
	Operator Role = "operator"
	Approver Role = "approver"
	Admin    Role = "admin"
)

var ranks = []Role{Viewer, Operator, Approver, Admin}

// Includes says whether r may do what needs the other role. An unknown role may do nothing.
func (r Role) Includes(needed Role) bool {
	have, least := slices.Index(ranks, r), slices.Index(ranks, needed)
	return least >= 0 && have >= least
}

// Caller is who asks.
type Caller struct {
	Name     string
	Role     Role            // in all services; may be empty
	Services map[string]Role // in some, where that is more
	Via      string          // "cli", "console"
}

func (c Caller) actor() lifecycle.Actor { return lifecycle.Actor{Name: c.Name, Via: c.Via} }

// UseCase is one thing that people can do, typed at both ends.
type UseCase[In, Out any] struct {
	Name string
	Role Role
	do   func(*Control, context.Context, Caller, In) (Out, error)
}

// Do checks the role and does it.
func (u UseCase[In, Out]) Do(ctx context.Context, c *Control, caller Caller, in In) (Out, error) {
	var none Out
	if err := allow(caller, u.Name, u.Role, in); err != nil {
		return none, err
	}
	out, err := u.do(c, ctx, caller, in)
	return out, lifecycle.Wrap(err, "%s", u.Name)
}

// Handler is a use case whose types are JSON.
type Handler struct {
	Name     string
	Role     Role
	Concerns func(in []byte) (services []string, ofAny bool, err error) // where the role is needed; see scoped
	Do       func(ctx context.Context, c *Control, caller Caller, in []byte) (any, error)
}

func (u UseCase[In, Out]) handler() Handler {
	decode := func(raw []byte) (in In, err error) {
		if err := decodeStrictly(raw, &in); err != nil {
			return in, lifecycle.Errorf(lifecycle.Invalid, "%s: input: %w", u.Name, err)
		}
		return in, nil
	}
	return Handler{
		Name: u.Name, Role: u.Role,
		Concerns: func(raw []byte) ([]string, bool, error) {
			in, err := decode(raw)
			names, ofAny := concerns(in)
			return names, ofAny, err
		},
		Do: func(ctx context.Context, c *Control, caller Caller, raw []byte) (any, error) {
			in, err := decode(raw)
			if err != nil {
				return nil, err
			}
			return u.Do(ctx, c, caller, in)
		},
	}
}

// decodeStrictly reads one JSON value: an unknown field or text after the end is a fault.
func decodeStrictly(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("missing; give a JSON object")
		}
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the end; give one JSON object")
	}
	return nil
}

// Handlers lists every use case, for the API.
func Handlers() []Handler {
	return []Handler{
		Apply.handler(), Services.handler(), Status.handler(), Releases.handler(), MakeRelease.handler(), Diff.handler(),
		Promote.handler(), Intervene.handler(), Approve.handler(), BreakGlass.handler(), Rollback.handler(),
		Start.handler(), Watch.handler(), Evaluations.handler(), Report.handler(), Ledger.handler(), Feedback.handler(),
		Freezes.handler(), CheckFreeze.handler(), OpenFreeze.handler(), CloseFreeze.handler(),
		Schedules.handler(), ChangeSchedule.handler(),
		Keys.handler(), CreateKey.handler(), RevokeKey.handler(),
		VerifyLedger.handler(), ExportLedger.handler(), Evidence.handler(), Served.handler(), Adopt.handler(),
	}
}
