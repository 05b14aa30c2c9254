package evaluation

import (
	"bufio"
	"fmt"
	"io"

	"github.com/refitml/refit/internal/lifecycle"
)

// Span is a run of a suite's cases in their order: from From up to To, which is not of it.
type Span struct{ From, To int }

// Spans cuts a suite into runs of about the same number of questions: at least so many of them where there are, and at
// most so many runs. A case is asked as a whole, with all its samples.
func (s Suite) Spans(least, most int) []Span {
	samples := s.samples()
	total := s.Questions()
	size := max(1, least, (total+most-1)/max(1, most))
	var spans []Span
	from, questions := 0, 0
	for i, c := range s.Cases {
		questions += samples[c.Capability]
		if questions >= size {
			spans = append(spans, Span{from, i + 1})
			from, questions = i+1, 0
		}
	}
	if from < len(s.Cases) {
		spans = append(spans, Span{from, len(s.Cases)})
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

// Within gives the cases of a run, to be asked as they are asked in the whole suite. It is no suite that checks. A run
// that the suite does not have is Invalid.
func (s Suite) Within(span Span) (Suite, error) {
	if span.From < 0 || span.From >= span.To || span.To > len(s.Cases) {
		return s, lifecycle.Errorf(lifecycle.Invalid, "cases %d to %d of a suite of %d", span.From, span.To, len(s.Cases))
	}
	s.Cases = s.Cases[span.From:span.To]
	return s, nil
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

// Join writes the answers of runs as those of the whole suite, and gives how many they are. Runs that are not the whole
// suite in its order, and answers that are not theirs, are an error: every case and sample is there once. One run is
// in memory at a time.
func (s Suite) Join(w io.Writer, as Answers, spans []Span, part func(at int) (Answers, error)) (int, error) {
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
		cases, err := s.Within(span)
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
	if next != len(s.Cases) {
		return 0, lifecycle.Errorf(lifecycle.Invalid, "the runs end with case %d of %d", next, len(s.Cases))
	}
	return answers, out.Flush()
}
