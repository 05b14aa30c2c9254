package capture

import (
	"encoding/binary"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// PostgreSQL's binary form of COPY (its manual, chapter COPY): a head, rows of fields with their lengths before them,
// and an end. Interactions are written in it straight from their structs, because the driver's way over lists of values
// costs more than everything else that is done for a record.
var (
	copyHead = []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	copyEnd  = []byte{0xff, 0xff}
)

// Types of the elements of arrays, as PostgreSQL numbers them for ever.
const (
	oidText   = 25
	oidFloat8 = 701
)

// postgresEpoch is what PostgreSQL counts time from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// copyRows reads as a COPY of interactions, which are encoded as they are read.
type copyRows struct {
	interactions []*lifecycle.Interaction
	row          row
	begun, ended bool
	sent         int // of row
}

// Read is io.Reader's.
func (c *copyRows) Read(p []byte) (n int, err error) {
	if c.sent == len(c.row.out) {
		c.fill(len(p))
	}
	n = copy(p, c.row.out[c.sent:])
	c.sent += n
	if n == 0 && c.ended {
		return 0, io.EOF
	}
	return n, nil
}

// fill encodes so many bytes, or all that is left.
func (c *copyRows) fill(size int) {
	c.row.out, c.sent = c.row.out[:0], 0
	if !c.begun {
		c.begun = true
		c.row.out = append(c.row.out, copyHead...)
	}
	for len(c.row.out) < size && len(c.interactions) > 0 {
		c.row.interaction(c.interactions[0])
		c.interactions = c.interactions[1:]
	}
	if len(c.interactions) == 0 && !c.ended {
		c.ended = true
		c.row.out = append(c.row.out, copyEnd...)
	}
}

// row writes fields.
type row struct{ out []byte }

var interactionColumns = []string{
	"service", "id", "conversation", "turn", "client", "release", "rollout", "step", "canary", "coin", "propensity",
	"moved", "rescued", "endpoint", "started", "retrieval", "first_token", "model", "post_processing", "total",
	"prompt_tokens", "completion_tokens", "outcome", "status", "guardrails", "finish", "passages", "input", "output",
	"owner", "content", "scores", "parameters", "used", "queue",
}

// interaction writes one in the order of interactionColumns.
func (r *row) interaction(i *lifecycle.Interaction) {
	r.out = binary.BigEndian.AppendUint16(r.out, uint16(len(interactionColumns)))
	r.texts(i.Service, i.ID, i.Conversation)
	r.integer(i.Turn)
	r.texts(i.Client, string(i.Release), i.Rollout)
	r.integer(i.Step)
	r.flags(i.Canary, i.Coin)
	r.floats(i.Propensity)
	r.flags(i.Moved, i.Rescued)
	r.texts(i.Endpoint)
	r.bigint(i.Started.UnixMicro() - postgresEpoch)
	r.floats(i.Latency.Retrieval, i.Latency.FirstToken, i.Latency.Model, i.Latency.PostProcessing, i.Latency.Total)
	r.integer(i.Usage.Prompt)
	r.integer(i.Usage.Completion)
	r.texts(i.Outcome)
	r.integer(i.Status)
	r.textArray(i.Guardrails)
	r.texts(i.Finish)
	r.textArray(i.Passages)
	r.texts(i.Input, i.Output, i.Owner, string(i.Content))
	r.floatArray(i.Scores)
	r.json(func(f *fields) {
		if len(i.Parameters) == 0 {
			f.out = append(f.out, "{}"...)
		}
		f.out = append(f.out, i.Parameters...)
	})
	r.json(func(f *fields) { f.used(i.Used) })
	r.floats(i.Latency.Queue)
}

// fits says whether an interaction's numbers fit their columns.
func fits(i *lifecycle.Interaction) bool {
	for _, n := range [...]int{i.Turn, i.Step, i.Usage.Prompt, i.Usage.Completion, i.Status} {
		if n < math.MinInt32 || n > math.MaxInt32 {
			return false
		}
	}
	return true
}

func (r *row) length(n int) { r.out = binary.BigEndian.AppendUint32(r.out, uint32(n)) }

func (r *row) texts(values ...string) {
	for _, s := range values {
		if s = text(s); len(s) > 0 {
			r.length(len(s))
			r.out = append(r.out, s...)
			continue
		}
		r.length(0)
	}
}

func (r *row) integer(n int) {
	r.length(4)
	r.out = binary.BigEndian.AppendUint32(r.out, uint32(int32(n)))
}

func (r *row) bigint(n int64) {
	r.length(8)
	r.out = binary.BigEndian.AppendUint64(r.out, uint64(n))
}

func (r *row) floats(values ...float64) {
	for _, v := range values {
		r.length(8)
		r.out = binary.BigEndian.AppendUint64(r.out, math.Float64bits(v))
	}
}

func (r *row) flags(values ...bool) {
	for _, v := range values {
		r.length(1)
		b := byte(0)
		if v {
			b = 1
		}
		r.out = append(r.out, b)
	}
}

// sized writes a field whose length is known when it is written.
func (r *row) sized(write func()) {
	at := len(r.out)
	r.length(0)
	write()
	binary.BigEndian.PutUint32(r.out[at:], uint32(len(r.out)-at-4))
}

// arrayHead is the beginning of an array of one dimension, which an empty array has not.
func (r *row) arrayHead(oid uint32, n int) {
	dimensions := uint32(min(n, 1))
	r.out = binary.BigEndian.AppendUint32(r.out, dimensions)
	r.out = binary.BigEndian.AppendUint32(r.out, 0) // no element is null
	r.out = binary.BigEndian.AppendUint32(r.out, oid)
	if n > 0 {
		r.out = binary.BigEndian.AppendUint32(r.out, uint32(n))
		r.out = binary.BigEndian.AppendUint32(r.out, 1) // the first one's number
	}
}

func (r *row) textArray(values []string) {
	r.sized(func() {
		r.arrayHead(oidText, len(values))
		r.texts(values...)
	})
}

func (r *row) floatArray(values []float64) {
	r.sized(func() {
		r.arrayHead(oidFloat8, len(values))
		r.floats(values...)
	})
}

// json writes a field of jsonb, whose form has a number.
func (r *row) json(write func(*fields)) {
	r.sized(func() {
		f := fields{out: append(r.out, 1)}
		write(&f)
		r.out = f.out
	})
}

// text makes s something that PostgreSQL stores: UTF-8 without zero bytes.
func text(s string) string {
	if utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
