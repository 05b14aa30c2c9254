package evaluation

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"

	"github.com/refitml/refit/internal/lifecycle"
)

// Span is a run of the cases that gates ask, in the suite's order: from From up to To, which is not of it.
type Span struct {
	From, To int
	At       int64 // byte of the file of cases to read on from; 0: not known, it is read from its beginning
}

// SpanFiles is a suite that lies in files, of which only what is asked at a time is in memory: runs of the cases that
// gates ask. Whoever wrote the files had checked the suite, and whoever judges checks it again; here the cases of a run are.
type SpanFiles struct{ Tree fs.FS }

// Cut cuts what gates ask into runs of about the same number of questions: at least so many of them where there are, and at
// most so many runs. A case is asked as a whole, with all its samples. It gives the number of questions, too.
func (f SpanFiles) Cut(least, most int) (spans []Span, questions int, err error) {
	lines, err := f.open()
	if err != nil {
		return nil, 0, err
	}
	defer lines.close()
	var each []int
	var starts []int64
	for {
		starts = append(starts, lines.at)
		c, more, err := lines.next()
		if err != nil {
			return nil, 0, err
		}
		if !more {
			spans = cutSpans(each, least, most)
			for i := range spans {
				spans[i].At = starts[spans[i].From]
			}
			return spans, questions, nil
		}
		each = append(each, lines.samples[c.Capability])
		questions += lines.samples[c.Capability]
	}
}

// Read gives the cases of a run, to be asked as they are asked in the whole suite. A run that the suite does not have is
// Invalid.
func (f SpanFiles) Read(span Span) (Suite, error) {
	lines, err := f.open()
	if err != nil {
		return Suite{}, err
	}
	defer lines.close()
	if span.From < 0 || span.From >= span.To {
		return Suite{}, lifecycle.Errorf(lifecycle.Invalid, "cases %d to %d", span.From, span.To)
	}
	passed, err := lines.goTo(span)
	if err != nil {
		return Suite{}, err
	}
	for range span.From - passed {
		if _, more, err := lines.next(); err != nil || !more {
			return Suite{}, outside(span, err)
		}
	}
	s := lines.head
	for range span.To - span.From {
		if _, more, err := lines.next(); err != nil || !more {
			return Suite{}, outside(span, err)
		}
		var c Case
		if err := lifecycle.DecodeStrictly(lines.Bytes(), &c); err != nil {
			return Suite{}, lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: %w", CasesFile, lines.n, err)
		}
		s.Cases = append(s.Cases, c)
	}
	return s, part(s, s.Cases).Check()
}

func outside(span Span, err error) error {
	if err != nil {
		return err
	}
	return lifecycle.Errorf(lifecycle.Invalid, "cases %d to %d, and the suite does not have so many", span.From, span.To)
}

// Join writes the answers of runs as those of the whole suite, and gives how many they are. Runs that are not the whole
// suite in its order, and answers that are not theirs, are an error: every case and sample is there once. One run is
// in memory at a time.
func (f SpanFiles) Join(w io.Writer, as Answers, spans []Span, part func(at int) (Answers, error)) (int, error) {
	lines, err := f.open()
	if err != nil {
		return 0, err
	}
	defer lines.close()
	out := bufio.NewWriter(w)
	if err := writeLine(out, as); err != nil {
		return 0, fmt.Errorf("write answers: %w", err)
	}
	next, answers := 0, 0
	for at, span := range spans {
		if span.From != next {
			return 0, lifecycle.Errorf(lifecycle.Invalid, "run %d begins with case %d in place of %d", at, span.From, next)
		}
		next = span.To
		cases, err := lines.names(span)
		if err != nil {
			return 0, err
		}
		said, err := part(at)
		if err == nil && (said.Suite != as.Suite || said.Release != as.Release) {
			err = lifecycle.Errorf(lifecycle.Corrupt, "release %s answered suite %s", said.Release.Short(), said.Suite.Short())
		}
		if err == nil {
			err = cases.Answered(said.List)
		}
		if err != nil {
			return 0, lifecycle.Wrap(err, "answers to cases %d to %d", span.From, span.To)
		}
		for _, each := range said.List {
			if err := writeLine(out, each); err != nil {
				return 0, fmt.Errorf("write answers: %w", err)
			}
		}
		answers += len(said.List)
	}
	_, more, err := lines.next()
	if err != nil {
		return 0, err
	}
	if more {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "the runs end with case %d, and the suite goes on", next)
	}
	return answers, out.Flush()
}

// names gives the cases of a run that comes next, with no more than what names them.
func (l *caseLines) names(span Span) (Suite, error) {
	s := l.head
	for range span.To - span.From {
		c, more, err := l.next()
		if err != nil || !more {
			return s, outside(span, err)
		}
		s.Cases = append(s.Cases, Case{ID: c.ID, Capability: c.Capability})
	}
	return s, nil
}

// caseLines reads the cases that gates ask, line by line.
type caseLines struct {
	*bufio.Scanner
	file    fs.File
	head    Suite
	samples map[string]int // by capability
	n       int            // lines that were read
	at      int64          // bytes that were read
}

func (f SpanFiles) open() (*caseLines, error) {
	head, file, err := openSuite(f.Tree)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Corrupt, "read the suite: %w", err)
	}
	l := &caseLines{Scanner: scanner(file), file: file, head: head, samples: head.samples()}
	l.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		n, line, err := bufio.ScanLines(data, atEOF)
		l.at += int64(n)
		return n, line, err
	})
	return l, nil
}

// goTo goes to where a run begins, where that is known, and gives how many cases it passed over so. What is read at a wrong
// place does not pass for the run: its answers would not be those of the suite's cases when they are joined.
func (l *caseLines) goTo(span Span) (passed int, err error) {
	seeker, can := l.file.(io.Seeker)
	if span.At <= 0 || !can {
		return 0, nil
	}
	if _, err := seeker.Seek(span.At, io.SeekStart); err != nil {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "read %s from byte %d: %w", CasesFile, span.At, err)
	}
	return span.From, nil
}

func (l *caseLines) close() { _ = l.file.Close() } // it was only read

// caseName is as much of a case as must be known of one that is passed over.
type caseName struct {
	ID         string `json:"id"`
	Capability string `json:"capability"`
	Split      string `json:"split"`
}

// next goes on to the next case that gates ask, whose line is in Bytes.
func (l *caseLines) next() (c caseName, more bool, err error) {
	for l.Scan() {
		l.n++
		c = caseName{}
		if err := json.Unmarshal(l.Bytes(), &c); err != nil {
			return c, false, lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: %w", CasesFile, l.n, err)
		}
		if _, known := l.samples[c.Capability]; !known {
			return c, false, lifecycle.Errorf(lifecycle.Corrupt, "%s line %d: a capability that the suite does not have", CasesFile, l.n)
		}
		if c.Split == "" || c.Split == GateSplit {
			return c, true, nil
		}
	}
	if err := l.Err(); err != nil {
		return c, false, lifecycle.Errorf(lifecycle.Corrupt, "read %s: %w", CasesFile, err)
	}
	return c, false, nil
}

// cutSpans cuts cases, of each of which the number of its samples is given.
func cutSpans(samples []int, least, most int) []Span {
	total := 0
	for _, n := range samples {
		total += n
	}
	size := max(1, least, (total+most-1)/max(1, most))
	var spans []Span
	from, questions := 0, 0
	for i, n := range samples {
		questions += n
		if questions >= size {
			spans = append(spans, Span{From: from, To: i + 1})
			from, questions = i+1, 0
		}
	}
	if from < len(samples) {
		spans = append(spans, Span{From: from, To: len(samples)})
	}
	return spans
}

func (s Suite) samples() map[string]int {
	samples := map[string]int{}
	for _, c := range s.Capabilities {
		samples[c.Name] = c.Samples()
	}
	return samples
}

// Answered refuses what are not the answers of a suite, one for each case and sample, in its order.
func (s Suite) Answered(list []Answer) error {
	questions := s.questions()
	for i, q := range questions {
		if i == len(list) {
			break
		}
		want, got := place{s.Cases[q.at].ID, q.sample}, place{list[i].Case, list[i].Sample}
		if want != got {
			return lifecycle.Errorf(lifecycle.Corrupt, "answer %d is to %s in place of %s", i, got, want)
		}
	}
	if len(list) != len(questions) {
		return lifecycle.Errorf(lifecycle.Corrupt, "%d answers to %d questions", len(list), len(questions))
	}
	return nil
}
