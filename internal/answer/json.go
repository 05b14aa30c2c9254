package answer

import (
	"encoding/json"
	"iter"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/refitml/refit/internal/lifecycle"
)

// span is a part of a document: doc[from:to].
type span struct{ from, to int }

func (s span) of(doc []byte) []byte { return doc[s.from:s.to] }

// member is one member of an object. Whole reaches from the key's quote to the value's end.
type member struct {
	key   string
	whole span
	value span
}

// reader reads one document after another, and keeps its memory for the next one. What it gave of a document holds
// until it reads another.
type reader struct {
	doc     []byte
	long    []span   // strings whose ends are known, so that nobody walks through them again
	members []member // of all objects that were read, one after another
}

// usualMembers are as many as most documents have, so that a document costs one allocation and not four.
const usualMembers = 16

// object is a JSON object seen as spans of its document, so that it can be changed without being
// written again.
type object struct {
	in      *reader
	doc     []byte
	at      span // from { to after }
	members []member
}

// parseObject reads a document that is kept for as long as its object is.
func parseObject(doc []byte) (object, error) { return new(reader).parse(doc) }

// parse checks that doc is one JSON object in UTF-8 and finds its members. A key that stands twice
// is refused: which of the two a server reads differs, and Refit must not own one and the server the other.
func (r *reader) parse(doc []byte) (object, error) {
	r.doc, r.long, r.members = doc, r.long[:0], r.members[:0]
	if r.members == nil {
		r.members = make([]member, 0, usualMembers)
	}
	if !r.valid() {
		return object{}, lifecycle.Errorf(lifecycle.Invalid, "the body is not JSON in UTF-8, or nests more than %d deep", maxDepth)
	}
	from := skipSpace(doc, 0)
	if doc[from] != '{' {
		return object{}, lifecycle.Errorf(lifecycle.Invalid, "the body is not a JSON object")
	}
	return r.object(from)
}

// object reads the object that begins at doc[from]. The document is valid JSON.
func (r *reader) object(from int) (object, error) {
	doc, begin := r.doc, len(r.members)
	o := object{in: r, doc: doc, at: span{from, from}}
	i := skipSpace(doc, from+1)
	for doc[i] != '}' {
		keyEnd := r.skipString(i)
		value := skipSpace(doc, skipSpace(doc, keyEnd)+1)
		m := member{key: key(doc[i:keyEnd]), value: span{value, r.skipValue(value)}}
		m.whole = span{i, m.value.to}
		for _, other := range r.members[begin:] {
			if other.key == m.key {
				return object{}, lifecycle.Errorf(lifecycle.Invalid, "the key %q stands twice in one object", bounded(m.key, 64))
			}
		}
		if r.members = append(r.members, m); len(r.members)-begin > maxMembers {
			return object{}, lifecycle.Errorf(lifecycle.Invalid, "an object has more than %d keys", maxMembers)
		}
		if i = skipSpace(doc, m.value.to); doc[i] == ',' {
			i = skipSpace(doc, i+1)
		}
	}
	o.members = r.members[begin:len(r.members):len(r.members)]
	o.at.to = i + 1
	return o, nil
}

// maxMembers bounds the search for keys that stand twice.
const maxMembers = 256

// find gives the value's span, and false where the key is missing.
func (o object) find(key string) (span, bool) {
	for _, m := range o.members {
		if m.key == key {
			return m.value, true
		}
	}
	return span{}, false
}

// raw gives the value's bytes; none where the key is missing.
func (o object) raw(key string) []byte {
	at, _ := o.find(key)
	return at.of(o.doc)
}

// decode reads the value of key into v. It says false where the key is missing, null, or of another type.
func (o object) decode(key string, v any) bool {
	at, ok := o.find(key)
	return ok && !isNull(at.of(o.doc)) && json.Unmarshal(at.of(o.doc), v) == nil
}

// integer reads the whole number under key; 0 where there is none.
func (o object) integer(key string) int {
	at, ok := o.find(key)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(string(at.of(o.doc)))
	if err != nil {
		return 0
	}
	return n
}

// exact refuses keys that differ from Refit's own in case only: some servers would take them for those.
func (o object) exact(own ...string) error {
	for _, m := range o.members {
		if lower(m.key) {
			continue // as they all are
		}
		for _, key := range own {
			if m.key != key && strings.EqualFold(m.key, key) {
				return lifecycle.Errorf(lifecycle.Invalid, "the key %q is spelled %q", bounded(m.key, 64), key)
			}
		}
	}
	return nil
}

// lower says whether a key is spelled in small letters of ASCII, digits and underscores.
func lower(key string) bool {
	for _, c := range []byte(key) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// child gives the object under key, and false where there is none.
func (o object) child(key string) (object, bool) {
	at, ok := o.find(key)
	if !ok || o.doc[at.from] != '{' {
		return object{}, false
	}
	child, err := o.in.object(at.from)
	return child, err == nil
}

// elements gives the spans of the array's values that begins at doc[from].
func (r *reader) elements(from int) iter.Seq[span] {
	return func(yield func(span) bool) {
		i := skipSpace(r.doc, from+1)
		for r.doc[i] != ']' {
			end := r.skipValue(i)
			if !yield(span{i, end}) {
				return
			}
			if i = skipSpace(r.doc, end); r.doc[i] == ',' {
				i = skipSpace(r.doc, i+1)
			}
		}
	}
}

// edit replaces one span by other bytes; an empty span inserts.
type edit struct {
	at   span
	with []byte
}

// apply writes doc with edits, which do not overlap. Without any it is doc itself.
func apply(doc []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return doc
	}
	sortEdits(edits)
	out := make([]byte, 0, body{doc: doc, edits: edits}.size())
	at := 0
	for _, e := range edits {
		out = append(out, doc[at:e.at.from]...)
		out = append(out, e.with...)
		at = e.at.to
	}
	return append(out, doc[at:]...)
}

// sortEdits puts edits in the order of their places; those of one place stay as they are.
func sortEdits(edits []edit) {
	for i := 1; i < len(edits); i++ { // there are few
		for j := i; j > 0 && edits[j].at.from < edits[j-1].at.from; j-- {
			edits[j], edits[j-1] = edits[j-1], edits[j]
		}
	}
}

// set gives the edit that makes key hold value: in place where the key is there, else as first member.
func (o object) set(key string, value []byte) edit {
	if at, ok := o.find(key); ok {
		return edit{at, value}
	}
	with := append(append(quoted(key), ':'), value...)
	if len(o.members) > 0 {
		with = append(with, ',')
	}
	return edit{span{o.at.from + 1, o.at.from + 1}, with}
}

// drop gives the edit that removes members, with their commas, so that the rest stays JSON. Several
// keys are dropped in one go because neighbours share commas.
func (o object) drop(keys ...string) []edit {
	parts := make([]span, len(o.members))
	for i, m := range o.members {
		parts[i] = m.whole
	}
	return without(parts, func(i int) bool { return slices.Contains(keys, o.members[i].key) })
}

// without gives the edits that remove parts of a list, with their commas.
func without(parts []span, gone func(i int) bool) []edit {
	var edits []edit
	kept := 0 // parts before this one that stay
	for i, part := range parts {
		if !gone(i) {
			kept++
			continue
		}
		switch {
		case i+1 < len(parts):
			edits = append(edits, edit{at: span{part.from, parts[i+1].from}})
		case kept > 0:
			// The last one goes with the comma before it; parts dropped just before it have taken theirs
			// along, so the comma left over stands after the last that stays.
			last := i - 1
			for gone(last) {
				edits = edits[:len(edits)-1]
				last--
			}
			edits = append(edits, edit{at: span{parts[last].to, part.to}})
		default:
			edits = append(edits, edit{at: part})
		}
	}
	return edits
}

func skipSpace(doc []byte, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\t' || doc[i] == '\n' || doc[i] == '\r') {
		i++
	}
	return i
}

// skipValue gives the end of the value that begins at doc[i]. The document is valid JSON.
func (r *reader) skipValue(i int) int {
	doc := r.doc
	for depth := 0; i < len(doc); {
		switch doc[i] {
		case '"':
			i = r.skipString(i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			i++
			continue
		default: // a number or a word
			for i < len(doc) && !ends(doc[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

func ends(c byte) bool {
	switch c {
	case ',', ':', ']', '}', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// skipString gives the end of the string that begins at doc[i].
func (r *reader) skipString(i int) int {
	if n, found := slices.BinarySearchFunc(r.long, i, func(s span, i int) int { return s.from - i }); found {
		return r.long[n].to
	}
	for i++; r.doc[i] != '"'; i++ {
		if r.doc[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func isNull(value []byte) bool { return string(value) == "null" }

// bounded cuts s at n bytes or a little before, never inside a character.
func bounded(s string, n int) string { return s[:cut(s, n)] }

// cut gives the end of the longest beginning of n bytes at most that ends with a character.
func cut[T string | []byte](s T, n int) int {
	if len(s) <= n {
		return len(s)
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return n
}
