package evaluation

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

var update = flag.Bool("update", false, "simulate the promises at full size and write them into docs/gate.md, which takes half an hour")

const (
	promisesFile = "testdata/promises.json"
	gatePage     = "../../docs/gate.md"
)

func full() bool { return os.Getenv("REFIT_LONG") == "1" || *update }

// sized gives the small number in the inner loop and the full one when REFIT_LONG is 1.
func sized(short, long int) int {
	if full() {
		return long
	}
	return short
}

// scene is a kind of gate whose promises are simulated.
type scene struct {
	name   string
	trials []trial
	level  float64 // promised at the margin
	exact  bool

	spoil  func(*Gate)  // plants a fault in what is judged; nil for none
	faults func(*rules) // likewise in how
}

func scenes() []scene {
	plain := trial{kind: Cloze, items: 400, perGroup: 1, baseline: 0.6, flips: 0.1, margin: 0.05}
	grouped := trial{kind: NextToken, items: 640, perGroup: 8, baseline: 0.6, flips: 0.2, within: 0.5, margin: 0.08}
	repeated := trial{kind: Cloze, items: 200, perGroup: 1, samples: 5, baseline: 0.6, flips: 0.04, flaky: 0.3, margin: 0.05}
	nested := trial{kind: Cloze, items: 240, perGroup: 4, samples: 3, baseline: 0.6, flips: 0.06, within: 0.5, flaky: 0.2, margin: 0.06}
	scores := trial{kind: BitsPerByte, items: 400, perGroup: 4, baseline: -2, flips: 0.2, within: 0.5, margin: 0.04}
	skewed := trial{kind: BitsPerByte, items: 150, perGroup: 1, baseline: -2, flips: 0.2, skewed: true, margin: 0.04}
	exact := trial{kind: BitsPerByte, items: 600, perGroup: 3, flips: 0.15, within: 0.3, bounded: true, margin: 0.05}
	wider := func(tr trial, by float64) trial { tr.margin *= by; return tr }
	return []scene{
		{name: "right and wrong", trials: many(1, plain), level: Level},
		{name: "right and wrong, eight", trials: many(8, wider(plain, 1.2)), level: Level},
		{name: "in groups of 8", trials: many(1, grouped), level: Level},
		{name: "in groups of 8, eight", trials: many(8, wider(grouped, 1.3)), level: Level},
		{name: "asked 5 times, 30% flaky", trials: many(1, repeated), level: Level},
		{name: "asked 5 times, 30% flaky, eight", trials: many(8, wider(repeated, 1.3)), level: Level},
		{name: "asked 3 times, 20% flaky, in groups of 4", trials: many(1, nested), level: Level},
		{name: "scores in groups of 4", trials: many(1, scores), level: 0.08},
		{name: "scores in groups of 4, eight", trials: many(8, wider(scores, 1.3)), level: 0.08},
		{name: "scores with a long tail of drops", trials: many(1, skewed), level: 0.08},
		{name: "exact, in groups of 3", trials: many(1, exact), level: Level, exact: true},
		{name: "all sorts, eight", trials: []trial{
			wider(plain, 1.3), wider(grouped, 1.3), wider(repeated, 1.3), wider(nested, 1.3), wider(scores, 1.3), wider(skewed, 1.3),
			wider(plain, 1.3), wider(grouped, 1.3),
		}, level: Level},
	}
}

// promise is what was seen of a scene.
type promise struct {
	Scene    string  `json:"scene"`
	Rounds   int64   `json:"rounds"`   // unchanged candidates, and candidates of which one capability is at its margin
	Regress  int64   `json:"regress"`  // of the unchanged ones
	Pass     int64   `json:"pass"`     // of the unchanged ones
	Said     float64 `json:"said"`     // chance of that, as printed; mean
	SaidLow  float64 `json:"said_low"` // of 19 in 20 printed chances it is more
	AtMargin int64   `json:"at_margin"`

	Powers  int64   `json:"powers"` // rounds of what follows; 0 where it was not looked at
	Drop    float64 `json:"drop"`   // smallest that it could name, as printed; mean
	Named   int64   `json:"named"`
	Margin  float64 `json:"margin"` // smallest that it could clear, likewise
	Cleared int64   `json:"cleared"`
}

// by gives the rules of a scene's gates; nobody asks what they could have seen.
func (s scene) by(g *Gate) rules {
	setDefault(&g.Policy.Clusters, 15)
	setDefault(&g.Policy.ScoreClusters, 50)
	if s.exact {
		g.Policy.Exact = []string{"c0"}
	}
	by := g.Policy.rules()
	if s.faults != nil {
		s.faults(&by)
	}
	return by
}

func (s scene) judge(g Gate, by rules) (lifecycle.Verdict, Report) {
	if s.spoil != nil {
		s.spoil(&g)
	}
	return g.judge(by)
}

// play simulates unchanged candidates, and candidates with the first capability at its margin.
func (s scene) play(seed uint64, rounds, foresights int) promise {
	r := rand.New(rand.NewPCG(seed, 2))
	p := promise{Scene: s.name, Rounds: int64(rounds)}
	g := draw(r, s.trials...)
	quick := s.by(&g)
	foreseeing := quick
	quick.foresee = nil
	var said []float64
	for i := range rounds {
		by := quick
		if i < foresights {
			by = foreseeing
		}
		redraw(r, &g, s.trials...)
		v, report := s.judge(g, by)
		switch v.Outcome {
		case lifecycle.RegressOutcome:
			p.Regress++
		case lifecycle.PassOutcome:
			p.Pass++
		}
		if i < foresights {
			said = append(said, report.ChanceUnchanged)
			p.Said += report.ChanceUnchanged / float64(foresights)
		}
	}
	if slices.Sort(said); len(said) > 0 {
		p.SaidLow = said[len(said)/20]
	}
	p.AtMargin = s.atMargin(r, rounds, &g, quick)
	return p
}

// atMargin counts the candidates that pass with the first capability at its margin.
func (s scene) atMargin(r *rand.Rand, rounds int, g *Gate, by rules) (passed int64) {
	trials := slices.Clone(s.trials)
	trials[0] = trials[0].at(-trials[0].margin)
	for range rounds {
		redraw(r, g, trials...)
		if v, _ := s.judge(*g, by); v.Outcome == lifecycle.PassOutcome {
			passed++
		}
	}
	return passed
}

// powers lets a gate print its smallest drop and margin, and tries candidates at exactly these.
func (s scene) powers(seed uint64, rounds int, p *promise) {
	r := rand.New(rand.NewPCG(seed, 3))
	g := draw(r, s.trials...)
	foreseeing := s.by(&g)
	quick := foreseeing
	quick.foresee = nil
	p.Powers = int64(rounds)
	for range rounds {
		redraw(r, &g, s.trials...)
		_, report := s.judge(g, foreseeing)
		detail := report.Capabilities[0]
		p.Drop += float64(detail.SmallestDrop) / float64(rounds)
		p.Margin += float64(detail.SmallestMargin) / float64(rounds)
		trials := slices.Clone(s.trials)
		trials[0] = trials[0].at(-float64(detail.SmallestDrop))
		redraw(r, &g, trials...)
		if _, report := s.judge(g, quick); report.Capabilities[0].ProvenDrop {
			p.Named++
		}
		trials[0] = s.trials[0]
		trials[0].margin = float64(detail.SmallestMargin)
		redraw(r, &g, trials...)
		if v, _ := s.judge(g, quick); v.Capabilities[0].Outcome == lifecycle.PassOutcome {
			p.Cleared++
		}
	}
}

// all plays a scene in full.
func (s scene) all(rounds, foresights, powers int) promise {
	if s.exact { // bets are tried out one by one
		foresights, powers = foresights/4+1, powers/4+1
	}
	p := s.play(1, rounds, foresights)
	s.powers(1, powers, &p)
	return p
}

// sure is how sure a simulation must be before it says that a promise is broken.
const sure = 1e-3

// limits gives what a rate may be, by what was counted: exact limits, so that no chance of the seed decides.
func limits(hits, rounds int64) (low, high float64) {
	low, high, err := stats.BinomialLimits(hits, rounds, sure)
	if err != nil {
		return math.NaN(), math.NaN()
	}
	return low, high
}

// broken names the promises that a simulation shows to be broken.
func (p promise) broken(level float64) (list []string) {
	not := func(holds bool, format string, args ...any) {
		if !holds {
			list = append(list, p.Scene+": "+fmt.Sprintf(format, args...))
		}
	}
	low, _ := limits(p.Regress, p.Rounds)
	not(low <= Level, "%d of %d unchanged candidates are called regressions", p.Regress, p.Rounds)
	low, _ = limits(p.AtMargin, p.Rounds)
	not(low <= level, "%d of %d candidates at their margin pass", p.AtMargin, p.Rounds)
	low, high := limits(p.Pass, p.Rounds)
	not(low-0.03 <= p.Said && p.Said <= high+0.03, "%d of %d unchanged candidates pass, and %.3f is printed", p.Pass, p.Rounds, p.Said)
	if p.Powers > 0 {
		_, high = limits(p.Named, p.Powers)
		not(high >= power, "%d of %d of the smallest drops are named", p.Named, p.Powers)
		_, high = limits(p.Cleared, p.Powers)
		not(high >= power, "%d of %d of the smallest margins are cleared", p.Cleared, p.Powers)
	}
	return list
}

// The gate's promises, in a short simulation that must agree with the documented one, which is 10,000 gates long and
// is played again when REFIT_LONG is 1.
func TestTheGateKeepsItsPromises(t *testing.T) {
	t.Parallel()
	if *update {
		writePromises(t)
	}
	documented := readPromises(t)
	for i, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			known := documented[i]
			require.Equal(t, s.name, known.Scene, "run make gate-table")
			require.Empty(t, known.broken(s.level))
			if *update {
				return
			}
			short := 60 / len(s.trials)
			seen := s.all(sized(short, 10_000), sized(short/3+1, 2000), sized(short/4+1, 2000))
			require.Empty(t, seen.broken(s.level))
			for _, pair := range [][4]int64{
				{seen.Regress, seen.Rounds, known.Regress, known.Rounds}, {seen.Pass, seen.Rounds, known.Pass, known.Rounds},
				{seen.AtMargin, seen.Rounds, known.AtMargin, known.Rounds}, {seen.Named, seen.Powers, known.Named, known.Powers},
				{seen.Cleared, seen.Powers, known.Cleared, known.Powers},
			} {
				low, high := limits(pair[0], pair[1])
				leastKnown, mostKnown := limits(pair[2], pair[3])
				require.True(t, low <= mostKnown && leastKnown <= high, "%d of %d here, %d of %d documented", pair[0], pair[1], pair[2], pair[3])
			}
		})
	}
}

func readPromises(t *testing.T) []promise {
	t.Helper()
	raw, err := os.ReadFile(promisesFile)
	require.NoError(t, err)
	var list []promise
	require.NoError(t, json.Unmarshal(raw, &list))
	require.Len(t, list, len(scenes()), "run make gate-table")
	page, err := os.ReadFile(gatePage)
	require.NoError(t, err)
	require.Contains(t, string(page), promisesTable(list), "run make gate-table")
	require.Contains(t, string(page), levelsTable(t), "run make gate-table")
	return list
}

// writePromises plays everything at full size, two scenes at once, and writes it down.
func writePromises(t *testing.T) {
	t.Helper()
	list := make([]promise, len(scenes()))
	var wait sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i, s := range scenes() {
		wait.Go(func() {
			slots <- struct{}{}
			list[i] = s.all(10_000, 2000, 2000)
			<-slots
		})
	}
	wait.Wait()
	raw, err := json.MarshalIndent(list, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(promisesFile, append(raw, '\n'), 0o644))
	replaceTable(t, "promises", promisesTable(list))
	replaceTable(t, "levels", levelsTable(t))
}

// levelsTable gives the levels that the pass question of right and wrong really has at the margin, by exact sums.
func levelsTable(t *testing.T) string {
	t.Helper()
	rates := []float64{0.05, 0.1, 0.2, 0.4}
	var out strings.Builder
	out.WriteString("| cases | margin |")
	for _, rate := range rates {
		fmt.Fprintf(&out, " %g%% differ otherwise |", 100*rate)
	}
	out.WriteString("\n|--:|--:|" + strings.Repeat("--:|", len(rates)) + "\n")
	for _, n := range []float64{100, 200, 400, 700, 1400, 5000} {
		for _, margin := range []float64{0.02, 0.05, 0.1} {
			fmt.Fprintf(&out, "| %g | %g |", n, margin)
			for _, rate := range rates {
				level, err := stats.TangoPower(stats.Comparison{N: n, Rate: rate + margin, Drop: margin}, margin, Level)
				require.NoError(t, err)
				fmt.Fprintf(&out, " %.1f%% |", 100*level)
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

// replaceTable writes a table of the page anew, between the marks that hold it.
func replaceTable(t *testing.T, name, table string) {
	t.Helper()
	page, err := os.ReadFile(gatePage)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(page), "<!-- "+name+" -->\n")
	require.True(t, found)
	_, after, found := strings.Cut(rest, "<!-- end of "+name+" -->\n")
	require.True(t, found)
	require.NoError(t, os.WriteFile(gatePage, []byte(before+"<!-- "+name+" -->\n"+table+"<!-- end of "+name+" -->\n"+after), 0o644))
}

func promisesTable(list []promise) string {
	part := func(hits, of int64) string { return fmt.Sprintf("%.2f%%", 100*float64(hits)/float64(max(1, of))) }
	var out bytes.Buffer
	out.WriteString(`| gates | false regress | at its margin, passes | unchanged, passes | printed chance of that: mean, 5% quantile | smallest drop printed: mean, named | smallest margin printed: mean, cleared |
|---|---|---|---|---|---|---|
`)
	for _, p := range list {
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %.1f%%, %.1f%% | %.4f, %s | %.4f, %s |\n", p.Scene, part(p.Regress, p.Rounds),
			part(p.AtMargin, p.Rounds), part(p.Pass, p.Rounds), 100*p.Said, 100*p.SaidLow, p.Drop, part(p.Named, p.Powers), p.Margin,
			part(p.Cleared, p.Powers))
	}
	return out.String()
}
