package evaluation

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

var (
	cost  = flag.Bool("cost", false, "measure what evaluation costs by the number of cases, and write it into docs/gate.md")
	sizes = flag.String("sizes", "", "with -cost: numbers of cases, with commas between, in place of those of the page, which is not written")
)

// echo is a fast fake model: it answers at once, mostly what is wanted, and differently by release.
type echo struct {
	table
	salt uint64
}

func (e echo) Say(_ context.Context, chat []Message, _ Speaking) (Spoken, error) {
	question := chat[len(chat)-1].Content
	answer := "the answer is " + question[strings.LastIndexByte(question, ' ')+1:]
	if hash(e.salt, question)%10 == 0 {
		answer = "nobody knows that"
	}
	return Spoken{Text: answer}, nil
}

// large makes a suite of n cases in two capabilities, one right or wrong and one of other scores, in groups of 5.
func large(n int) Suite {
	s := Suite{Version: SuiteVersion}
	for _, name := range []string{"contains", "token-f1"} {
		s.Capabilities = append(s.Capabilities, Capability{
			Name: name, Kind: Generate, Metric: name, Margin: 0.02, Items: n / 2, Scorer: &score.Spec{Name: name},
		})
		for i := range n / 2 {
			s.Cases = append(s.Cases, Case{
				ID: fmt.Sprintf("%s/%d", name, i), Capability: name, Group: fmt.Sprintf("%s-%d", name, i/5), Want: fmt.Sprint("word", i),
				Text: fmt.Sprintf("Of all the words that stand in a book of this length, which one is the one of number word%d", i),
			})
		}
	}
	return s
}

// peakDuring gives the most bytes that objects on the heap took while f ran.
func peakDuring(f func()) float64 {
	runtime.GC()
	const heap = "/memory/classes/heap/objects:bytes"
	look := func() float64 {
		sample := []metrics.Sample{{Name: heap}}
		metrics.Read(sample)
		return float64(sample[0].Value.Uint64())
	}
	peak, stop, stopped := look(), make(chan struct{}), make(chan struct{})
	ticker := time.NewTicker(2 * time.Millisecond)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticker.C:
				peak = max(peak, look())
			case <-stop:
				return
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	ticker.Stop()
	return peak
}

// spent is what a part of the work took.
type spent struct {
	seconds float64 // of processor time, of all cores together
	peak    float64 // bytes of objects on the heap
}

// processor gives the seconds of processor time that this process has used.
func processor(t testing.TB) float64 {
	t.Helper()
	var used syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func spend(t testing.TB, f func()) (s spent) {
	t.Helper()
	s.peak = peakDuring(func() {
		before := processor(t)
		f()
		s.seconds = processor(t) - before
	})
	return s
}

// disk is a folder that a tree is written to.
type disk string

func (d disk) Create(name string) (io.WriteCloser, error) {
	return os.Create(filepath.Join(string(d), name))
}

// evaluated does all that a gate does with n cases but wait for a model server: ask both releases, score and keep what
// they say; then judge what was kept.
func evaluated(t testing.TB, n int) (asking, judging spent, outcome lifecycle.Outcome) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, large(n).Write(disk(dir)))
	asking = spend(t, func() {
		for i, release := range []lifecycle.Digest{oldRelease, newRelease} {
			askInBatches(t, disk(dir), release, echo{salt: uint64(i)})
		}
	})
	open := func(release lifecycle.Digest) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return os.Open(filepath.Join(dir, string(release))) }
	}
	judging = spend(t, func() {
		f := Files{
			Gate: Gate{Service: "docs", SuiteDigest: suiteDigest, Candidate: newRelease, Baseline: oldRelease, Attempt: 1},
			Tree: os.DirFS(dir), Candidate: open(newRelease), Baseline: open(oldRelease),
		}
		v, report, err := JudgeFiles(f)
		require.NoError(t, err)
		outcome = v.Outcome
		raw, err := report.JSON()
		require.NoError(t, err)
		require.True(t, json.Valid(raw))
		require.NotEmpty(t, report.Markdown())
	})
	return asking, judging, outcome
}

// askInBatches asks as gates do: in batches, each of which keeps its answers, which are joined in the end.
func askInBatches(t testing.TB, dir disk, release lifecycle.Digest, speaker Speaker) {
	t.Helper()
	suite := SpanFiles{os.DirFS(string(dir))}
	spans, _, err := suite.Cut(100, 200)
	require.NoError(t, err)
	keep := func(name string, write func(io.Writer) error) {
		file, err := dir.Create(name)
		require.NoError(t, err)
		require.NoError(t, write(file))
		require.NoError(t, file.Close())
	}
	as := Answers{Suite: suiteDigest, Release: release}
	batch := func(at int) string { return fmt.Sprint(release, "-", at) }
	for at, span := range spans {
		s, err := suite.Read(span)
		require.NoError(t, err)
		said := as
		said.List, err = AskAll(t.Context(), s, nil, nil, Asking{Parallel: 2, Speaker: speaker})
		require.NoError(t, err)
		keep(batch(at), said.Write)
	}
	keep(string(release), func(w io.Writer) error {
		_, err := suite.Join(w, as, spans, func(at int) (Answers, error) {
			file, err := os.Open(filepath.Join(string(dir), batch(at)))
			require.NoError(t, err)
			defer file.Close()
			return ReadAnswers(file)
		})
		return err
	})
}

// costTable measures from 1,000 to 1,000,000 cases.
func costTable(t *testing.T, sizes ...int) string {
	t.Helper()
	var out strings.Builder
	out.WriteString("| cases | ask, score and keep: processor time | a case and release | peak heap | judge: processor time | a case | peak heap |\n")
	out.WriteString("|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, n := range sizes {
		asking, judging, outcome := evaluated(t, n)
		require.NotEqual(t, lifecycle.ErrorOutcome, outcome)
		fmt.Fprintf(&out, "| %d | %.2f s | %.1f us | %.0f MiB | %.2f s | %.1f us | %.0f MiB |\n", n, asking.seconds, 1e6*asking.seconds/float64(2*n),
			asking.peak/(1<<20), judging.seconds, 1e6*judging.seconds/float64(n), judging.peak/(1<<20))
	}
	return out.String()
}

// TestEvaluationOfManyCases does it once with few; with -cost it measures and writes the page.
func TestEvaluationOfManyCases(t *testing.T) {
	if *cost && *sizes != "" {
		var list []int
		for _, each := range strings.Split(*sizes, ",") {
			n, err := strconv.Atoi(each)
			require.NoError(t, err)
			list = append(list, n)
		}
		t.Log("\n" + costTable(t, list...))
		return
	}
	if *cost {
		table := costTable(t, 1000, 10_000, 100_000, 1_000_000)
		t.Log("\n" + table)
		replaceTable(t, "cost", table)
		return
	}
	t.Parallel()
	_, _, outcome := evaluated(t, 2000)
	require.NotEqual(t, lifecycle.ErrorOutcome, outcome)
}
