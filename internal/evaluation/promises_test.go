package evaluation

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/stats"
)

var (
	update = flag.Bool("update", false, "simulate the promises and write them into docs/gate.md")
	only   = flag.String("only", "", "with -update: scenes to simulate, a regular expression; the others stay as they are written")
	fewer  = flag.Int("fewer", 1, "with -update: simulate so many times fewer gates")
)

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

// promise is what was seen of a scene.
type promise struct {
	Scene    string  `json:"scene"`
	Rounds   int64   `json:"rounds"`   // unchanged candidates, and candidates of which one capability is at its margin
	Regress  int64   `json:"regress"`  // of the unchanged ones
	Pass     int64   `json:"pass"`     // of the unchanged ones
	Said     float64 `json:"said"`     // chance of that, as printed; mean
	SaidLow  float64 `json:"said_low"` // of 19 in 20 printed chances it is more
	AtMargin int64   `json:"at_margin"`

	Foresights int64 `json:"foresights"` // gates whose printed chance was looked at

	Powers  int64   `json:"powers"` // rounds of what follows; 0 where it was not looked at
	Drop    float64 `json:"drop"`   // smallest that it could name, as printed; mean
	Named   int64   `json:"named"`
	Margin  float64 `json:"margin"` // smallest that it could clear, likewise
	Cleared int64   `json:"cleared"`

	chances, drops, margins []float64 // as printed, one by one
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
	v, report := g.judge(by)
	if s.prints != nil {
		s.prints(&report)
	}
	return v, report
}

// effort says how often a scene is tried.
type effort struct{ rounds, foresights, powers int }

var fullEffort = effort{rounds: 10_000, foresights: 2000, powers: 2000}

// part gives an n-th of the effort, and of each at least one where there is one.
func (z effort) part(n int) effort {
	return effort{(z.rounds + n - 1) / n, (z.foresights + n - 1) / n, (z.powers + n - 1) / n}
}

// try simulates a scene. The same seed gives the same numbers.
func (s scene) try(seed uint64, size effort) promise {
	if s.exact { // bets are tried out one by one
		size.foresights, size.powers = size.foresights/4, size.powers/4
	}
	p := s.play(seed, size.rounds, size.foresights)
	s.powers(seed, size.powers, &p)
	return p
}

// play simulates unchanged candidates, and candidates with the first capability at its margin.
func (s scene) play(seed uint64, rounds, foresights int) promise {
	r := rand.New(rand.NewPCG(seed, 2))
	p := promise{Scene: s.name, Rounds: int64(rounds)}
	g := draw(r, s.trials...)
	quick := s.by(&g)
	foreseeing := quick
	quick.foresee, foreseeing.foresee = nil, g.Policy.foreseeing(foreseeChance)
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
			p.chances = append(p.chances, report.ChanceUnchanged)
		}
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

// powers lets a gate print its smallest drop and margin, and tries candidates at exactly these. Where none is printed,
// none was named or cleared.
func (s scene) powers(seed uint64, rounds int, p *promise) {
	r := rand.New(rand.NewPCG(seed, 3))
	g := draw(r, s.trials...)
	quick := s.by(&g)
	foreseeing := quick
	quick.foresee = nil
	foreseeing.foresee = func(t *tally, seen sight, capabilities int, detail *CapabilityReport) error {
		if t.Name != "c0" { // nobody tries the others'
			return nil
		}
		return g.Policy.foreseeing(foreseeSmallest)(t, seen, capabilities, detail)
	}
	p.Powers = int64(rounds)
	for range rounds {
		redraw(r, &g, s.trials...)
		_, report := s.judge(g, foreseeing)
		detail := report.Capabilities[0]
		trials := slices.Clone(s.trials)
		if drop := float64(detail.SmallestDrop); finite(drop) {
			p.drops = append(p.drops, drop)
			trials[0] = trials[0].at(-drop)
			redraw(r, &g, trials...)
			if _, report := s.judge(g, quick); report.Capabilities[0].ProvenDrop {
				p.Named++
			}
		}
		if margin := float64(detail.SmallestMargin); finite(margin) {
			p.margins = append(p.margins, margin)
			trials[0] = s.trials[0]
			trials[0].margin = margin
			redraw(r, &g, trials...)
			if v, _ := s.judge(g, quick); v.Capabilities[0].Outcome == lifecycle.PassOutcome {
				p.Cleared++
			}
		}
	}
}

// with adds what another part of the same scene saw.
func (p promise) with(q promise) promise {
	p.Rounds, p.Regress, p.Pass, p.AtMargin = p.Rounds+q.Rounds, p.Regress+q.Regress, p.Pass+q.Pass, p.AtMargin+q.AtMargin
	p.Powers, p.Named, p.Cleared = p.Powers+q.Powers, p.Named+q.Named, p.Cleared+q.Cleared
	p.chances, p.drops, p.margins = append(p.chances, q.chances...), append(p.drops, q.drops...), append(p.margins, q.margins...)
	return p
}

// summed gives the promise with means of what was printed.
func (p promise) summed() promise {
	p.Said, p.Drop, p.Margin, p.Foresights = mean(p.chances), mean(p.drops), mean(p.margins), int64(len(p.chances))
	if slices.Sort(p.chances); len(p.chances) > 0 {
		p.SaidLow = p.chances[len(p.chances)/20]
	}
	return p
}

func mean(list []float64) (m float64) {
	for _, v := range list {
		m += v / float64(len(list))
	}
	return m
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
	if p.Foresights > 0 {
		low, high := limits(p.Pass, p.Rounds)
		not(low-0.03 <= p.Said && p.Said <= high+0.03, "%d of %d unchanged candidates pass, and %.3f is printed", p.Pass, p.Rounds, p.Said)
	}
	if p.Powers > 0 {
		_, high := limits(p.Named, p.Powers)
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
			size := fullEffort
			if !full() {
				short := 40 / len(s.trials)
				size = effort{short, short/6 + 1, short/8 + 1}
			}
			seen := s.try(s.seed(), size).summed()
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
	list := storedPromises(t)
	require.Len(t, list, len(scenes()), "run make gate-table")
	page, err := os.ReadFile(gatePage)
	require.NoError(t, err)
	for _, table := range promisesTables(list) {
		require.Contains(t, string(page), table, "run make gate-table")
	}
	require.Contains(t, string(page), levelsTable(t), "run make gate-table")
	return list
}

// writePromises tries the scenes that are asked for, in many parts over all processors, and writes everything down.
func writePromises(t *testing.T) {
	t.Helper()
	const parts = 20
	all, list := scenes(), make([]promise, len(scenes()))
	asked := regexp.MustCompile(*only)
	known := map[string]promise{}
	for _, p := range storedPromises(t) {
		known[p.Scene] = p
	}
	var seen [parts][]promise
	var work []func()
	for part := range parts {
		seen[part] = make([]promise, len(all))
		for i, s := range all {
			if asked.MatchString(s.name) {
				work = append(work, func() { seen[part][i] = s.try(s.seed()<<8+uint64(part), fullEffort.part(parts*(*fewer))) })
			}
		}
	}
	var wait sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, do := range work {
		slots <- struct{}{}
		wait.Go(func() {
			do()
			<-slots
		})
	}
	wait.Wait()
	for i, s := range all {
		list[i] = known[s.name]
		if asked.MatchString(s.name) {
			list[i] = promise{Scene: s.name}
			for part := range parts {
				list[i] = list[i].with(seen[part][i])
			}
			list[i] = list[i].summed()
		}
	}
	raw, err := json.MarshalIndent(list, "", "  ")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(promisesFile, append(raw, '\n'), 0o644))
	for name, of := range promisesTables(list) {
		replaceTable(t, name, of)
	}
	replaceTable(t, "levels", levelsTable(t))
}

func storedPromises(t *testing.T) (list []promise) {
	t.Helper()
	raw, err := os.ReadFile(promisesFile)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &list))
	return list
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

// promisesTables gives a table of the scenes of each sort.
func promisesTables(list []promise) map[string]string {
	sorted := map[keeping][]promise{}
	for i, s := range scenes() {
		sorted[s.kept] = append(sorted[s.kept], list[i])
	}
	tables := map[string]string{}
	for kept, some := range sorted {
		tables[string(kept)] = promisesTable(some)
	}
	return tables
}

func promisesTable(list []promise) string {
	part := func(hits, of int64) string { return fmt.Sprintf("%.1f%%", 100*float64(hits)/float64(max(1, of))) }
	var out bytes.Buffer
	out.WriteString(`| gates | tried | false regress | at its margin, passes | unchanged, passes | printed chance of that: mean, 5% quantile | smallest drop printed: mean, named | smallest margin printed: mean, cleared |
|---|--:|--:|--:|--:|--:|--:|--:|
`)
	for _, p := range list {
		fmt.Fprintf(&out, "| %s | %d, %d, %d | %s | %s | %s | %.1f%%, %.1f%% | %.4f, %s | %.4f, %s |\n", p.Scene, p.Rounds, p.Foresights, p.Powers,
			part(p.Regress, p.Rounds), part(p.AtMargin, p.Rounds), part(p.Pass, p.Rounds), 100*p.Said, 100*p.SaidLow,
			p.Drop, part(p.Named, p.Powers), p.Margin, part(p.Cleared, p.Powers))
	}
	return out.String()
}
