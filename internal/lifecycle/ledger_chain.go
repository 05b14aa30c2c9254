package lifecycle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"iter"
	"reflect"
	"strconv"
	"time"
)

// Chained is a ledger entry with the hash that binds it to the one before.
type Chained struct {
	LedgerEntry
	Key   string `json:"key,omitempty"`           // by which a repeated step writes once
	Text  string `json:"evidence_text,omitempty"` // the evidence to the byte, as the database writes it: this is hashed
	Chain Digest `json:"chain"`
}

// Link gives what Chain must be after an entry whose Chain is previous, "" before the first: SHA-256 over the words
// "refit ledger 1", previous, service, sequence, time in microseconds since 1970, kind, subject, actor, via, reason,
// evidence and key, each after its length in four bytes, big end first; ff ff ff ff stands for an evidence or a key
// that is not there.
func (c Chained) Link(previous Digest) Digest {
	h := sha256.New()
	field := func(s string) { hashField(h, s) }
	optional := func(s string) {
		if s == "" {
			h.Write([]byte{0xff, 0xff, 0xff, 0xff})
			return
		}
		field(s)
	}
	field("refit ledger 1")
	field(string(previous))
	field(c.Service)
	field(strconv.FormatInt(c.Sequence, 10))
	field(strconv.FormatInt(c.At.UnixMicro(), 10))
	field(string(c.Kind))
	field(c.Subject)
	field(c.Actor.Name)
	field(c.Actor.Via)
	field(c.Reason)
	optional(c.Text)
	optional(c.Key)
	return Digest(hex.EncodeToString(h.Sum(nil)))
}

func hashField(h hash.Hash, s string) {
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
	h.Write([]byte(s))
}

// Anchor is a place of the chain that was written down outside of the database.
type Anchor struct {
	Service  string    `json:"service"`
	Epoch    int64     `json:"epoch"` // of the registry; see RegistryAdopted
	Sequence int64     `json:"sequence"`
	Chain    Digest    `json:"chain"`
	At       time.Time `json:"at"`
	Locked   time.Time `json:"locked_until,omitzero"` // until when nobody can delete it; zero: somebody can
}

// Faults of a ledger.
const (
	LedgerChanged   = "changed"   // an entry is not what was chained
	LedgerRemoved   = "removed"   // entries are missing
	LedgerRewritten = "rewritten" // the chain holds, but is not the one that was anchored
	LedgerCut       = "cut"       // there are anchors of entries that are not there: the end was cut off, or the database is an older one
)

// LedgerFault is one thing that is wrong with a ledger.
type LedgerFault struct {
	Fault    string `json:"fault"`
	Sequence int64  `json:"sequence"`
	Detail   string `json:"detail"`
}

// LedgerAudit is what came of checking a ledger.
type LedgerAudit struct {
	Service  string        `json:"service"`
	Entries  int64         `json:"entries"`
	Head     Digest        `json:"head"`     // chain of the last one
	Anchors  int           `json:"anchors"`  // that were compared
	Anchored int64         `json:"anchored"` // sequence up to which anchors vouch for the entries
	Unlocked int           `json:"unlocked"` // anchors among them that somebody could delete
	Faults   []LedgerFault `json:"faults"`   // at most 20
}

// mostFaults bounds what an audit lists.
const mostFaults = 20

// NotCounted says that nobody counted the entries: a missing end does not show.
const NotCounted = -1

// AuditLedger checks all entries of a service, in their order, and holds them against anchors. counted is how many entries
// the service's counter says that there are. Anchors of an epoch that ended are held against the entries up to the one that
// ended it: what came after was lost with the database that was replaced, and that entry says so.
func AuditLedger(service string, entries iter.Seq2[Chained, error], counted int64, anchors []Anchor) (LedgerAudit, error) {
	a := LedgerAudit{Service: service, Faults: []LedgerFault{}}
	chains := map[int64]Digest{} // at the anchors' places
	for _, anchor := range anchors {
		chains[anchor.Sequence] = ""
	}
	var epochs []int64 // sequence of the entry that ended each epoch, from the first
	for e, err := range entries {
		if err != nil {
			return a, err
		}
		if e.Sequence != a.Entries+1 {
			a.add(LedgerRemoved, e.Sequence, "after %d comes %d", a.Entries, e.Sequence)
		}
		if want := e.Link(a.Head); want != e.Chain {
			a.add(LedgerChanged, e.Sequence, "it, or what stood before it, is not what was written: its hash is %s and must be %s", e.Chain.Short(), want.Short())
		}
		if !sameJSON(e.Text, e.Evidence) {
			a.add(LedgerChanged, e.Sequence, "its evidence is not the text that was hashed")
		}
		if e.Service != service {
			a.add(LedgerChanged, e.Sequence, "it is of service %q", e.Service)
		}
		a.Entries, a.Head = e.Sequence, e.Chain
		if _, anchored := chains[e.Sequence]; anchored {
			chains[e.Sequence] = e.Chain
		}
		if e.Kind == RegistryAdopted {
			epochs = append(epochs, e.Sequence)
		}
	}
	if counted != NotCounted && a.Entries != counted {
		a.add(LedgerRemoved, a.Entries, "the last entry is %d, and %d were counted", a.Entries, counted)
	}
	for _, anchor := range anchors {
		a.compare(anchor, chains[anchor.Sequence], epochs)
	}
	return a, nil
}

// sameJSON says whether a value is what a text says; nothing is what an empty text says.
func sameJSON(text string, value json.RawMessage) bool {
	if text == "" || len(value) == 0 {
		return text == "" && len(value) == 0
	}
	a, okA := decoded([]byte(text))
	b, okB := decoded(value)
	return okA && okB && reflect.DeepEqual(a, b)
}

// decoded keeps numbers as they are written.
func decoded(raw []byte) (value any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return value, d.Decode(&value) == nil
}

func (a *LedgerAudit) compare(anchor Anchor, chain Digest, epochs []int64) {
	ended := int64(len(epochs)) >= anchor.Epoch
	if ended && anchor.Sequence >= epochs[anchor.Epoch-1] {
		return // of what was lost, and adopted as lost
	}
	a.Anchors++
	if anchor.Locked.IsZero() {
		a.Unlocked++
	}
	switch {
	case anchor.Sequence > a.Entries:
		a.add(LedgerCut, anchor.Sequence, "an anchor of %s vouches for entry %d, which is not there", anchor.At.UTC().Format(time.RFC3339), anchor.Sequence)
	case chain != anchor.Chain:
		a.add(LedgerRewritten, anchor.Sequence, "the entry's hash is %s, and an anchor of %s says %s", chain.Short(), anchor.At.UTC().Format(time.RFC3339), anchor.Chain.Short())
	default:
		a.Anchored = max(a.Anchored, anchor.Sequence)
	}
}

func (a *LedgerAudit) add(fault string, sequence int64, format string, args ...any) {
	if len(a.Faults) < mostFaults {
		a.Faults = append(a.Faults, LedgerFault{fault, sequence, fmt.Sprintf(format, args...)})
	}
}

// Err is a Corrupt error that names the first fault; nil where there is none.
func (a LedgerAudit) Err() error {
	if len(a.Faults) == 0 {
		return nil
	}
	f := a.Faults[0]
	return Errorf(Corrupt, "the ledger of %s is not what was written: entry %d %s: %s", a.Service, f.Sequence, f.Fault, f.Detail)
}
