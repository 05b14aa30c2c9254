package control

import (
	"context"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// Services lists what is declared, of it what the caller may see.
var Services = UseCase[struct{}, []registry.ServiceVersion]{"services", Viewer,
	func(c *Control, ctx context.Context, caller Caller, _ struct{}) ([]registry.ServiceVersion, error) {
		all, err := c.cfg.Registry.Services(ctx)
		return slices.DeleteFunc(all, func(s registry.ServiceVersion) bool { return !caller.RoleIn(s.Service).Includes(Viewer) }), err
	}}

// ReleasesInput asks for a service's releases, newest first.
type ReleasesInput struct {
	Service string `json:"service"`
	Limit   int    `json:"limit,omitempty"` // default 20
}

// ReleaseLine is a release in a list.
type ReleaseLine struct {
	registry.ReleaseInfo
	ServedName string `json:"served_name"` // that model servers have its weights under
}

// Releases lists them.
var Releases = UseCase[ReleasesInput, []ReleaseLine]{"releases", Viewer, (*Control).releases}

func (c *Control) releases(ctx context.Context, _ Caller, in ReleasesInput) ([]ReleaseLine, error) {
	if _, err := c.cfg.Registry.ServiceVersion(ctx, in.Service); err != nil {
		return nil, err
	}
	found, err := c.cfg.Registry.Releases(ctx, in.Service, limit(in.Limit, 20))
	lines := make([]ReleaseLine, len(found))
	for i, info := range found {
		lines[i] = ReleaseLine{info, info.Release.ServedName()}
	}
	return lines, err
}

// MakeReleaseInput bundles artifacts with what the declaration says of prompt, parameters and post-processing.
type MakeReleaseInput struct {
	Service string           `json:"service"`
	Model   lifecycle.Digest `json:"model,omitempty"` // default: the newest of the service
	Index   lifecycle.Digest `json:"index,omitempty"` // likewise
}

// MadeRelease names the release; it may have been there before.
type MadeRelease struct {
	Release lifecycle.Digest `json:"release"`
}

// MakeRelease makes a release without training anything: how a changed prompt, parameter or rule becomes one.
// It still has to pass its gate.
var MakeRelease = UseCase[MakeReleaseInput, MadeRelease]{"make-release", Operator, (*Control).makeRelease}

func (c *Control) makeRelease(ctx context.Context, caller Caller, in MakeReleaseInput) (MadeRelease, error) {
	id, err := c.cfg.Registry.MakeRelease(ctx, registry.NewRelease{
		Service: in.Service, Model: in.Model, Index: in.Index, By: caller.actor(),
	})
	return MadeRelease{id}, err
}

// DiffInput names two releases by ID or its beginning.
type DiffInput struct {
	Service string `json:"service"`
	Before  string `json:"before"`
	After   string `json:"after"`
}

// DiffResult names the levers that changed.
type DiffResult struct {
	Before lifecycle.Release `json:"before"`
	After  lifecycle.Release `json:"after"`
	Levers []lifecycle.Lever `json:"levers"`
}

// Diff compares two releases.
var Diff = UseCase[DiffInput, DiffResult]{"diff", Viewer, (*Control).diff}

func (c *Control) diff(ctx context.Context, _ Caller, in DiffInput) (DiffResult, error) {
	_, before, err := c.cfg.Registry.Release(ctx, in.Service, in.Before)
	if err != nil {
		return DiffResult{}, err
	}
	_, after, err := c.cfg.Registry.Release(ctx, in.Service, in.After)
	if err != nil {
		return DiffResult{}, err
	}
	return DiffResult{before, after, lifecycle.Levers(before, after)}, nil
}

// LedgerInput asks for a part of a service's history.
type LedgerInput struct {
	Service string                 `json:"service"`
	After   int64                  `json:"after,omitempty"` // sequence; 0 gives the newest entries
	Kinds   []lifecycle.LedgerKind `json:"kinds,omitempty"`
	Limit   int                    `json:"limit,omitempty"` // default 100, at most 1000
}

// Ledger reads the history, oldest first: what follows an entry, or the newest.
var Ledger = UseCase[LedgerInput, []lifecycle.LedgerEntry]{"ledger", Viewer,
	func(c *Control, ctx context.Context, _ Caller, in LedgerInput) ([]lifecycle.LedgerEntry, error) {
		return c.cfg.Registry.Ledger(ctx, registry.LedgerQuery{
			Service: in.Service, After: in.After, Kinds: in.Kinds, Limit: limit(in.Limit, 100), Newest: in.After == 0,
		})
	}}

// FeedbackInput names a service.
type FeedbackInput struct {
	Service string `json:"service"`
}

// FeedbackResult counts by kind and shows the ladder.
type FeedbackResult struct {
	Counts map[string]int           `json:"counts"`
	Ladder []lifecycle.LadderRecord `json:"ladder"`
}

// Feedback shows what users reported and what was tried against it.
var Feedback = UseCase[FeedbackInput, FeedbackResult]{"feedback", Viewer, (*Control).feedback}

func (c *Control) feedback(ctx context.Context, _ Caller, in FeedbackInput) (FeedbackResult, error) {
	counts, err := c.cfg.Captured.FeedbackCounts(ctx, in.Service)
	if err != nil {
		return FeedbackResult{}, err
	}
	ladder, err := c.cfg.Registry.Ladder(ctx, in.Service)
	return FeedbackResult{counts, ladder}, err
}

func limit(asked, usual int) int {
	if asked <= 0 {
		return usual
	}
	return min(asked, 1000)
}
