package lifecycle

import (
	"encoding/json"
	"iter"
	"slices"
	"time"
)

// ServedAt is what served a service at a moment, and why: by its ledger alone.
type ServedAt struct {
	Service string        `json:"service"`
	At      time.Time     `json:"at"`
	Stable  Digest        `json:"stable"`           // "" before the first release
	Canary  Digest        `json:"canary,omitempty"` // out at that moment, with a share of 0 too
	Share   BasisPoints   `json:"share_bp"`
	Lapses  []LedgerEntry `json:"lapses,omitempty"` // of the canary's lease, as far as they were noticed: all users were on stable then
	Entries []LedgerEntry `json:"entries"`          // that made it so: verdicts, approvals, steps and changes of both releases, oldest first
	Left    int           `json:"left_out"`         // older ones of them that are not listed
}

// mostEntries bounds what is listed of a moment.
const mostEntries = 200

// decisive are the entries that say why a release served.
var decisive = []LedgerKind{
	ReleaseAdded, Evaluated, RolloutStarted, ShareChanged, StepJudged, Approved, Rejected, Promoted, RolledBack, RegistryAdopted,
}

// WhatServed follows a ledger, given from its first entry on, to a moment. Entries at that very moment count.
func WhatServed(service string, at time.Time, entries iter.Seq2[Chained, error]) (ServedAt, error) {
	s := ServedAt{Service: service, At: at, Entries: []LedgerEntry{}}
	about := map[Digest][]LedgerEntry{}
	for e, err := range entries {
		if err != nil {
			return s, err
		}
		if e.At.After(at) {
			break
		}
		if err := s.follow(e.LedgerEntry); err != nil {
			return s, err
		}
		subject := Digest(e.Subject)
		if subject == "" || !subject.Valid() {
			subject = s.Canary // approvals and rejections are of the rollout under way
		}
		if slices.Contains(decisive, e.Kind) && subject != "" {
			about[subject] = append(about[subject], e.LedgerEntry)
		}
	}
	s.Entries = append(s.Entries, about[s.Stable]...)
	if s.Canary != "" && s.Canary != s.Stable {
		s.Entries = append(s.Entries, about[s.Canary]...)
	}
	slices.SortFunc(s.Entries, func(a, b LedgerEntry) int { return int(a.Sequence - b.Sequence) })
	s.Left = max(0, len(s.Entries)-mostEntries)
	s.Entries = s.Entries[s.Left:]
	return s, nil
}

// follow takes one change of the route.
func (s *ServedAt) follow(e LedgerEntry) error {
	var evidence struct {
		Stable Digest      `json:"stable"`
		Share  BasisPoints `json:"to_bp"`
	}
	change := slices.Contains([]LedgerKind{RolledBack, ShareChanged}, e.Kind)
	if change && json.Unmarshal(e.Evidence, &evidence) != nil {
		return Errorf(Corrupt, "entry %d of the ledger of %s has evidence that cannot be read", e.Sequence, s.Service)
	}
	switch e.Kind {
	case RolloutStarted:
		s.Canary, s.Share, s.Lapses = Digest(e.Subject), 0, nil
	case ShareChanged:
		s.Canary, s.Share = Digest(e.Subject), evidence.Share
	case LeaseLapsed:
		s.Lapses = append(s.Lapses, e)
	case Promoted, RegistryAdopted:
		s.Stable = Digest(e.Subject)
		s.Canary, s.Share, s.Lapses = "", 0, nil
	case RolledBack:
		if evidence.Stable != "" {
			s.Stable = evidence.Stable
		}
		s.Canary, s.Share, s.Lapses = "", 0, nil
	}
	return nil
}
