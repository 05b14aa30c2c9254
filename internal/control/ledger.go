package control

import (
	"context"
	"encoding/json"
	"iter"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// Anchors are heads of ledgers that were written down outside of the database.
type Anchors interface {
	Anchors(ctx context.Context, service string) ([]lifecycle.Anchor, error)
}

// LedgerService names a service.
type LedgerService struct {
	Service string `json:"service"`
}

// LedgerVerdict is what came of checking a ledger.
type LedgerVerdict struct {
	lifecycle.LedgerAudit
	Unread string `json:"unread,omitempty"` // why no anchor was compared: the chain alone cannot tell a ledger that was made anew
}

// Err is nil only where the chain is whole and holds against its anchors.
func (v LedgerVerdict) Err() error {
	if err := v.LedgerAudit.Err(); err != nil {
		return err
	}
	if v.Unread != "" {
		return lifecycle.Errorf(lifecycle.Unavailable, "the chain is whole, but its anchors could not be read: %s", v.Unread)
	}
	return nil
}

// VerifyLedger checks every entry of a service's ledger and holds it against the anchors in S3. Faults are in the result,
// not an error.
var VerifyLedger = UseCase[LedgerService, LedgerVerdict]{"ledger-verify", Viewer, (*Control).verifyLedger}

func (c *Control) verifyLedger(ctx context.Context, _ Caller, in LedgerService) (LedgerVerdict, error) {
	var v LedgerVerdict
	// First the anchors, then the counter, then the entries: each is of what the next one must hold.
	anchors, err := c.anchors(ctx, in.Service)
	if err != nil {
		v.Unread = err.Error()
	}
	head, err := c.ledgerHead(ctx, in.Service)
	if err != nil {
		return v, err
	}
	v.LedgerAudit, err = lifecycle.AuditLedger(in.Service, upTo(head.Sequence, c.cfg.Registry.LedgerChain(ctx, in.Service, 0)), head.Sequence, anchors)
	return v, err
}

// upTo ends a ledger at a place: what was appended since is not counted.
func upTo(last int64, entries iter.Seq2[lifecycle.Chained, error]) iter.Seq2[lifecycle.Chained, error] {
	return func(yield func(lifecycle.Chained, error) bool) {
		for e, err := range entries {
			if err == nil && e.Sequence > last || !yield(e, err) {
				return
			}
		}
	}
}

func (c *Control) anchors(ctx context.Context, service string) ([]lifecycle.Anchor, error) {
	if c.cfg.Anchors == nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "s3.endpoint: missing")
	}
	return c.cfg.Anchors.Anchors(ctx, service)
}

func (c *Control) ledgerHead(ctx context.Context, service string) (registry.LedgerHead, error) {
	heads, err := c.cfg.Registry.LedgerHeads(ctx)
	if err != nil {
		return registry.LedgerHead{}, err
	}
	for _, h := range heads {
		if h.Service == service {
			return h, nil
		}
	}
	return registry.LedgerHead{}, lifecycle.Errorf(lifecycle.NotFound, "service %s is not declared", service)
}

// LedgerPage asks for entries with their hashes.
type LedgerPage struct {
	Service string `json:"service"`
	After   int64  `json:"after,omitempty"` // sequence
}

// ExportLedger gives a part of the ledger with all that is hashed, oldest first; none behind the last one.
var ExportLedger = UseCase[LedgerPage, []lifecycle.Chained]{"ledger-export", Viewer, (*Control).exportLedger}

func (c *Control) exportLedger(ctx context.Context, _ Caller, in LedgerPage) ([]lifecycle.Chained, error) {
	if _, err := c.cfg.Registry.ServiceVersion(ctx, in.Service); err != nil {
		return nil, err
	}
	page := []lifecycle.Chained{}
	for e, err := range c.cfg.Registry.LedgerChain(ctx, in.Service, in.After) {
		if err != nil {
			return nil, err
		}
		if page = append(page, e); len(page) == 500 {
			break
		}
	}
	return page, nil
}

// ServedInput names a moment.
type ServedInput struct {
	Service string    `json:"service"`
	At      time.Time `json:"at,omitzero"` // default now
}

// Served says what served at a moment, who let it and on which evidence.
var Served = UseCase[ServedInput, lifecycle.ServedAt]{"served", Viewer, (*Control).served}

func (c *Control) served(ctx context.Context, _ Caller, in ServedInput) (lifecycle.ServedAt, error) {
	if _, err := c.cfg.Registry.ServiceVersion(ctx, in.Service); err != nil {
		return lifecycle.ServedAt{}, err
	}
	if in.At.IsZero() {
		in.At = c.cfg.Now()
	}
	return lifecycle.WhatServed(in.Service, in.At, c.cfg.Registry.LedgerChain(ctx, in.Service, 0))
}

// AdoptInput says why a restored registry is to be followed.
type AdoptInput struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// Adopt begins a new epoch after the registry's database was restored. What the anchors know of the time that was lost
// goes to the ledger.
var Adopt = UseCase[AdoptInput, lifecycle.Route]{"adopt", Admin, (*Control).adopt}

func (c *Control) adopt(ctx context.Context, caller Caller, in AdoptInput) (lifecycle.Route, error) {
	if in.Reason == "" {
		return lifecycle.Route{}, lifecycle.Errorf(lifecycle.Invalid, "reason: missing; say why, it goes to the ledger")
	}
	head, err := c.ledgerHead(ctx, in.Service)
	if err != nil {
		return lifecycle.Route{}, err
	}
	var evidence struct {
		Last   *lifecycle.Anchor `json:"last_anchor,omitempty"` // of the epoch that ends
		Unread string            `json:"anchors_unread,omitempty"`
	}
	anchors, err := c.anchors(ctx, in.Service)
	if err != nil {
		evidence.Unread = err.Error()
	}
	for _, a := range anchors {
		if a.Epoch == head.Epoch && (evidence.Last == nil || a.Sequence > evidence.Last.Sequence) {
			evidence.Last = &a
		}
	}
	raw, err := json.Marshal(evidence)
	if err != nil {
		return lifecycle.Route{}, lifecycle.Errorf(lifecycle.Internal, "encode what was lost: %w", err)
	}
	return c.cfg.Registry.Adopt(ctx, in.Service, caller.actor(), in.Reason, raw)
}
