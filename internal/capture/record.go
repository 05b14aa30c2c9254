package capture

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"

	"github.com/refitml/refit/internal/lifecycle"
)

// record is what a frame of a segment holds: one of the two.
type record struct {
	Interaction *lifecycle.Interaction `json:"i,omitempty"`
	Feedback    *lifecycle.Feedback    `json:"f,omitempty"`
}

// A text's frame holds the record's ID, too, so that no record is ever given another one's texts.
//
// The payload of a segment's frame is a form, the place of the record's texts in the segment's text file (offset
// and length of a frame there, zero length: none), and the record as JSON without its texts. Segments of former
// releases hold the JSON alone, with the texts in it; JSON begins with a brace, which is no form.
const (
	formRecord = 1
	formText   = 1
	headRecord = 1 + 8 + 4
)

// place is where in a segment's text file a record's texts stand.
type place struct {
	offset int64
	length uint32
}

// givenUp is the place of texts that found no room.
var givenUp = place{offset: -1}

// putPlace fills in the place that was left open by encodeRecord.
func putPlace(payload []byte, at place) {
	binary.LittleEndian.PutUint64(payload[1:9], uint64(at.offset))
	binary.LittleEndian.PutUint32(payload[9:13], at.length)
}

// encodeRecord gives the payload of a record's frame, without what was said.
func encodeRecord(r record) ([]byte, error) {
	payload := make([]byte, headRecord, usualRecord)
	payload[0] = formRecord
	if r.Interaction == nil {
		raw, err := json.Marshal(r)
		return append(payload, raw...), err
	}
	f := fields{out: append(payload, `{"i":`...)}
	f.interaction(r.Interaction)
	return append(f.out, '}'), f.err
}

// usualRecord is as many bytes as most records have.
const usualRecord = 1152

// said gives the length of the payload of a text's frame; 0 where nothing was said.
func (r record) said() int {
	if r.Interaction == nil || r.Interaction.Input == "" && r.Interaction.Output == "" {
		return 0
	}
	size := 1
	for _, t := range r.texts() {
		size += uvarintLen(uint64(len(t))) + len(t)
	}
	return size
}

// texts are what a text's frame holds: whose it is, and what was said.
func (r record) texts() [3]string {
	return [3]string{r.Interaction.ID, r.Interaction.Input, r.Interaction.Output}
}

func uvarintLen(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

var errForm = errors.New("a frame that is no record")

// decodeRecord reads what encodeRecord made.
func decodeRecord(payload []byte) (r record, at place, err error) {
	if len(payload) > headRecord && payload[0] == formRecord {
		at.offset = int64(binary.LittleEndian.Uint64(payload[1:9]))
		at.length = binary.LittleEndian.Uint32(payload[9:13])
		payload = payload[headRecord:]
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return record{}, place{}, err
	}
	if (r.Interaction == nil) == (r.Feedback == nil) {
		return record{}, place{}, errForm
	}
	return r, at, nil
}

// appendTextFrame adds a frame with texts.
func appendTextFrame(out []byte, texts ...string) []byte {
	at := len(out)
	out = append(beginFrame(out), formText)
	for _, t := range texts {
		out = binary.AppendUvarint(out, uint64(len(t)))
		out = append(out, t...)
	}
	endFrame(out[at:])
	return out
}

// decodeText gives exactly so many texts, or an error.
func decodeText(payload []byte, texts ...*string) error {
	if len(payload) == 0 || payload[0] != formText {
		return errForm
	}
	payload = payload[1:]
	for _, t := range texts {
		n, used := binary.Uvarint(payload)
		if used <= 0 || n > uint64(len(payload)-used) {
			return errForm
		}
		*t = string(payload[used : used+int(n)])
		payload = payload[used+int(n):]
	}
	if len(payload) > 0 {
		return errForm
	}
	return nil
}
