package activities

import (
	"context"
	"log/slog"
	"time"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// Anchors writes the heads of all ledgers down in S3, where who owns the database cannot change them. It is no step of a
// loop: every worker does it, and writing the same head again changes nothing.
type Anchors struct {
	Registry *registry.Registry
	Store    *artifacts.Store
	Lock     time.Duration // how long an anchor cannot be deleted; more than 0
	Log      *slog.Logger
}

// Keep anchors what has grown, at once and then every so often, until ctx ends. Troubles are logged once for as long as
// they last.
func (a Anchors) Keep(ctx context.Context, every time.Duration) error {
	log := orDefault(a.Log)
	done := map[string]lifecycle.Anchor{}
	var trouble string
	for {
		err := a.Anchor(ctx, done)
		if err != nil && err.Error() != trouble && ctx.Err() == nil {
			log.WarnContext(ctx, "ledgers are not anchored in S3; it is tried again", "error", err)
		}
		trouble = ""
		if err != nil {
			trouble = err.Error()
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// Anchor writes down every head that is not in done yet.
func (a Anchors) Anchor(ctx context.Context, done map[string]lifecycle.Anchor) error {
	heads, err := a.Registry.LedgerHeads(ctx)
	if err != nil {
		return err
	}
	for _, h := range heads {
		before := done[h.Service]
		if h.Sequence == 0 || before.Epoch == h.Epoch && before.Sequence == h.Sequence {
			continue
		}
		anchor := lifecycle.Anchor{Service: h.Service, Epoch: h.Epoch, Sequence: h.Sequence, Chain: h.Chain, At: time.Now().UTC()}
		locked, err := a.Store.PutAnchor(ctx, anchor, a.Lock)
		if err != nil {
			return err
		}
		if !locked && before.Sequence == 0 {
			orDefault(a.Log).WarnContext(ctx, "the bucket has no object lock: anchors of ledgers can be deleted by whoever may delete objects", "service", h.Service)
		}
		done[h.Service] = anchor
	}
	return nil
}
