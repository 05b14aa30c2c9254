package capture

// ahead is what was written to the spool and is still in memory, so that a loader that keeps up reads nothing from the
// disk. It is a copy of what stands there, and may have gaps: what finds no room, or came before this process, is read.
// The spool's lock guards it.
type ahead struct {
	kept []written // in the order of the segments
	size int64
}

// written is a record with its place on the disk.
type written struct {
	record     record
	segment    int64
	begin, end int64 // of its frame
	size       int64
	said       int // 1 where it has texts
}

// recordSize is about what a record takes in memory beside its texts.
const recordSize = 1024

// add keeps an entry that was written, where there is room.
func (a *ahead) add(g *segment, begin, end int64, e *entry, most int64) {
	w := written{record: e.record, segment: g.number, begin: begin, end: end, size: recordSize + int64(e.said)}
	if a.size+w.size > most || g.given && e.said > 0 { // what was given up meanwhile is counted as lost
		return
	}
	if e.said > 0 {
		w.said = 1
	}
	a.kept = append(a.kept, w)
	a.size += w.size
}

// take adds to a batch what follows its offset, and says whether there was any.
func (a *ahead) take(b *batch, limit int) bool {
	for _, w := range a.kept {
		if w.segment != b.number || w.begin != b.offset || len(b.records) == limit {
			break
		}
		b.records = append(b.records, w.record)
		b.offset = w.end
		b.said += w.said
	}
	b.moved = len(b.records) > 0
	return b.moved
}

// begins gives the place in a segment where what is kept begins, or end.
func (a *ahead) begins(number, end int64) int64 {
	if len(a.kept) > 0 && a.kept[0].segment == number {
		return a.kept[0].begin
	}
	return end
}

// forget drops what is loaded: everything before a place in the oldest segment.
func (a *ahead) forget(number, offset int64) {
	n := 0
	for n < len(a.kept) && (a.kept[n].segment < number || a.kept[n].segment == number && a.kept[n].begin < offset) {
		a.size -= a.kept[n].size
		n++
	}
	clear(a.kept[:n])
	a.kept = a.kept[n:]
}

// leave drops a segment's.
func (a *ahead) leave(number int64) {
	kept := a.kept[:0]
	for _, w := range a.kept {
		if w.segment == number {
			a.size -= w.size
			continue
		}
		kept = append(kept, w)
	}
	clear(a.kept[len(kept):])
	a.kept = kept
}
