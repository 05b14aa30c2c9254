package evaluation

import (
	"bufio"
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// Files is a gate's question whose suite and answers lie in files. Of the suite it asks what gates may ask.
type Files struct {
	Gate      // without Suite and answers
	Tree      fs.FS
	Candidate func() (io.ReadCloser, error)
	Baseline  func() (io.ReadCloser, error) // nil where nothing serves yet
	Compared  func() (io.ReadCloser, error) // nil where the suite compares no answers, or nobody compared them
	Labelled  func() (io.ReadCloser, error) // nil where no scorer was held against people
}

// JudgeFiles is Judge on files. Where they are in good order (each release answered the suite's cases in the suite's
// order) they are read side by side, and memory holds the sums of groups and sixteen bytes a case; where anything is out
// of order they are read whole, and Judge says what is wrong. An error means that a file could not be read.
func JudgeFiles(f Files) (lifecycle.Verdict, Report, error) {
	f.Policy.defaults()
	sums, err := f.sums()
	if errors.Is(err, errDisorder) {
		return f.judgeWhole()
	}
	if err != nil {
		return lifecycle.Verdict{}, Report{}, err
	}
	v, report := f.conclude(sums, f.Policy.rules())
	return v, report, nil
}

// errDisorder says that files cannot be judged as they stream.
var errDisorder = errors.New("files are not in order")

// judgeWhole reads everything and judges.
func (f Files) judgeWhole() (v lifecycle.Verdict, r Report, err error) {
	if f.Suite, err = ReadSuite(f.Tree); err != nil {
		return v, r, err
	}
	if f.Suite, err = f.Suite.Only(GateSplit); err != nil {
		return v, r, err
	}
	read := func(open func() (io.ReadCloser, error)) (Answers, error) {
		file, err := open()
		if err != nil {
			return Answers{}, err
		}
		defer file.Close()
		return ReadAnswers(file)
	}
	if f.CandidateAnswer, err = read(f.Candidate); err != nil {
		return v, r, lifecycle.Wrap(err, "the candidate's answers")
	}
	if f.Gate.Baseline != "" {
		if f.BaselineAnswer, err = read(f.Baseline); err != nil {
			return v, r, lifecycle.Wrap(err, "the baseline's answers")
		}
	}
	if f.Gate.Baseline != "" && f.Compared != nil {
		if f.Gate.Compared, err = readComparisons(f.Compared); err != nil {
			return v, r, lifecycle.Wrap(err, "the comparisons of answers")
		}
	}
	if f.Gate.Labels, err = f.labels(); err != nil {
		return v, r, err
	}
	v, r = Judge(f.Gate)
	return v, r, nil
}

func readComparisons(open func() (io.ReadCloser, error)) (Comparisons, error) {
	file, err := open()
	if err != nil {
		return Comparisons{}, err
	}
	defer file.Close()
	return ReadComparisons(file)
}

// labels reads the labels, which are few.
func (f Files) labels() (Labels, error) {
	if f.Labelled == nil {
		return Labels{}, nil
	}
	file, err := f.Labelled()
	if err != nil {
		return Labels{}, err
	}
	defer file.Close()
	labels, err := ReadLabels(file)
	return labels, lifecycle.Wrap(err, "what scorers said of answers that people have judged")
}

// sums reads files side by side. Whatever is not as it should be is errDisorder.
func (f Files) sums() ([]*tally, error) {
	suite, cases, err := openSuite(f.Tree)
	if err != nil {
		return nil, errDisorder
	}
	defer cases.Close()
	read, err := f.streams(suite.Compares())
	defer read.close()
	if err != nil {
		return nil, err
	}
	labels, err := f.labels()
	if err != nil || labels.List != nil && labels.Suite != f.SuiteDigest {
		return nil, errDisorder
	}
	sums := newSums(suite, f.Policy, labels.found())
	for chunk, err := range chunks(suite, cases) {
		if err != nil {
			return nil, errDisorder
		}
		for _, c := range chunk {
			if err := sums.add(c, read); err != nil {
				return nil, err
			}
		}
	}
	if !sums.whole() || read.more() {
		return nil, errDisorder
	}
	return sums.list, nil
}

// summed is what was read so far.
type summed struct {
	list   []*tally
	byName map[string]*tally
	search map[string]int  // cases of the other split, by capability
	apart  map[string]bool // groups of the other split
	tried  map[uint64]bool // what the other split asks
	asked  []uint64        // what gates ask
	seed   maphash.Seed
	seen   []uint64 // hashes of case IDs: two that are equal are read whole, and told apart or not
}

func newSums(s Suite, p Policy, labelled map[string]Label) *summed {
	out := &summed{byName: map[string]*tally{}, search: map[string]int{}, apart: map[string]bool{}, tried: map[uint64]bool{}, seed: maphash.MakeSeed()}
	for _, c := range s.Capabilities {
		t := newTally(c).held(s, labelled)
		out.list, out.byName[c.Name] = append(out.list, t), t
	}
	if slices.ContainsFunc(p.Exact, func(name string) bool { return out.byName[name] == nil }) {
		out.byName = nil // fits no case
	}
	return out
}

func (s *summed) add(c Case, read streams) error {
	t := s.byName[c.Capability]
	if t == nil {
		return errDisorder
	}
	s.seen = append(s.seen, maphash.String(s.seed, c.ID))
	if c.Split != "" && c.Split != GateSplit {
		s.search[c.Capability]++
		s.apart[c.Group], s.tried[c.asks()] = true, true
		return nil
	}
	s.asked = append(s.asked, c.asks())
	binary, samples := t.Binary(), t.Samples()
	after, err := takeAnswers(read.candidate, c, samples, binary)
	if err != nil {
		return err
	}
	before := after
	if read.baseline != nil {
		if before, err = takeAnswers(read.baseline, c, samples, binary); err != nil {
			return err
		}
	}
	if t.pairwise != nil {
		compared, err := takeComparisons(read.compared, after, before)
		if err != nil {
			return err
		}
		after, before = t.compared(after, before, compared)
	}
	t.add(c, after, before)
	return nil
}

// whole says whether every capability has its cases, each once, and no group and no question lies in both splits.
func (s *summed) whole() bool {
	slices.Sort(s.seen)
	if len(slices.Compact(s.seen)) < len(s.seen) {
		return false
	}
	if len(s.tried) > 0 && slices.ContainsFunc(s.asked, func(what uint64) bool { return s.tried[what] }) {
		return false
	}
	return !slices.ContainsFunc(s.list, func(t *tally) bool {
		for group := range s.apart {
			if _, both := t.groups[group]; both {
				return true
			}
		}
		return t.cases == 0 || t.cases+s.search[t.Name] != t.Items
	})
}

// openSuite reads a suite's head, and opens its cases.
func openSuite(tree fs.FS) (Suite, fs.File, error) {
	raw, err := fs.ReadFile(tree, SuiteFile)
	if err != nil {
		return Suite{}, nil, err
	}
	var s Suite
	if err := lifecycle.DecodeStrictly(raw, &s); err != nil {
		return s, nil, err
	}
	cases, err := tree.Open(CasesFile)
	return s, cases, err
}

// chunks gives cases some at a time, each chunk checked as a suite of its own.
func chunks(s Suite, r io.Reader) iter.Seq2[[]Case, error] {
	const size = 4096
	return func(yield func([]Case, error) bool) {
		lines := scanner(r)
		chunk := make([]Case, 0, size)
		for {
			chunk = chunk[:0]
			for len(chunk) < size && lines.Scan() {
				var c Case
				if err := lifecycle.DecodeStrictly(lines.Bytes(), &c); err != nil {
					yield(nil, err)
					return
				}
				chunk = append(chunk, c)
			}
			if err := lines.Err(); err != nil {
				yield(nil, err)
				return
			}
			if len(chunk) == 0 {
				return
			}
			if !yield(chunk, part(s, chunk).Check()) {
				return
			}
		}
	}
}

// part gives a suite of some cases, with the capabilities that they belong to.
func part(s Suite, cases []Case) Suite {
	count := map[string]int{}
	for _, c := range cases {
		count[c.Capability]++
	}
	out := s
	out.Cases, out.Capabilities = cases, nil
	for _, c := range s.Capabilities {
		if c.Items = count[c.Name]; c.Items > 0 {
			out.Capabilities = append(out.Capabilities, c)
		}
	}
	return out
}

func scanner(r io.Reader) *bufio.Scanner {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	return lines
}

// streams are what is read beside a suite's cases. Without a baseline there is neither it nor what was compared.
type streams struct {
	candidate, baseline *lineStream[Answer]
	compared            *lineStream[Comparison]
}

// streams opens what lies in files, and checks whose it is. It is to be closed after an error, too.
func (f Files) streams(compares bool) (s streams, err error) {
	answersOf := func(release lifecycle.Digest) func([]byte) bool {
		return func(line []byte) bool {
			var head Answers
			return lifecycle.DecodeStrictly(line, &head) == nil && head.Suite == f.SuiteDigest && head.Release == release
		}
	}
	if s.candidate, err = stream[Answer](f.Candidate, answersOf(f.Gate.Candidate)); err != nil || f.Gate.Baseline == "" {
		return s, err
	}
	if s.baseline, err = stream[Answer](f.Baseline, answersOf(f.Gate.Baseline)); err != nil || !compares {
		return s, err
	}
	if f.Compared == nil {
		return s, errDisorder
	}
	s.compared, err = stream[Comparison](f.Compared, func(line []byte) bool {
		var head Comparisons
		return lifecycle.DecodeStrictly(line, &head) == nil && head.Suite == f.SuiteDigest &&
			head.Candidate == f.Gate.Candidate && head.Baseline == f.Gate.Baseline
	})
	return s, err
}

// more says whether something follows, or could not be read.
func (s streams) more() bool { return s.candidate.more() || s.baseline.more() || s.compared.more() }

func (s streams) close() {
	s.candidate.close()
	s.baseline.close()
	s.compared.close()
}

// lineStream reads a file of one value a line, one by one. A nil one has nothing.
type lineStream[T any] struct {
	file  io.Closer
	lines *bufio.Scanner
	taken []T
}

// stream opens a file whose first line says whose it is.
func stream[T any](open func() (io.ReadCloser, error), fits func(head []byte) bool) (*lineStream[T], error) {
	file, err := open()
	if err != nil {
		return nil, err
	}
	s := &lineStream[T]{file: file, lines: scanner(file)}
	if !s.lines.Scan() || !fits(s.lines.Bytes()) {
		return s, errDisorder
	}
	return s, nil
}

// take gives so many lines; they hold until the next ones are taken. Fewer are errDisorder.
func (s *lineStream[T]) take(n int) ([]T, error) {
	s.taken = s.taken[:0]
	for range n {
		var v T
		if !s.lines.Scan() || lifecycle.DecodeStrictly(s.lines.Bytes(), &v) != nil {
			return nil, errDisorder
		}
		s.taken = append(s.taken, v)
	}
	return s.taken, nil
}

func (s *lineStream[T]) more() bool { return s != nil && (s.lines.Scan() || s.lines.Err() != nil) }

func (s *lineStream[T]) close() {
	if s != nil {
		_ = s.file.Close() // it was only read
	}
}

// takeAnswers gives the answers to a case.
func takeAnswers(s *lineStream[Answer], c Case, samples int, binary bool) ([]Answer, error) {
	taken, err := s.take(samples)
	if err != nil {
		return nil, err
	}
	var f faults
	for sample, a := range taken {
		if f.answer(c, a, sample, samples, binary); a.Case != c.ID || len(f.list) > 0 {
			return nil, errDisorder
		}
	}
	return taken, nil
}

// takeComparisons gives the comparisons of answers to a case; none where nothing is compared with.
func takeComparisons(s *lineStream[Comparison], after, before []Answer) ([]Comparison, error) {
	if s == nil {
		return nil, nil
	}
	taken, err := s.take(len(after))
	if err != nil {
		return nil, err
	}
	var f faults
	for i, c := range taken {
		if f.compared(c, after[i], before[i]); len(f.list) > 0 {
			return nil, errDisorder
		}
	}
	return taken, nil
}
