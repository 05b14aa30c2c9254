package rollout

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

const judgeFile = "../../docs/judge.md"

// Traffic of the comparison: conversations a minute, each with one answer, of which the canary gets its share by a coin.
const (
	perMinute = 100
	horizon   = 20_000 // conversations: 200 minutes, and 1,000 on the canary
	share     = 0.05
	ordinary  = 0.02 // of stable's conversations have an error
	strict    = 0.01 // false alarms in the horizon that everybody may have
)

func errorsAt(seed uint64, canary float64) []Conversation {
	return world{random: rand.New(rand.NewPCG(seed, 77)), p: share, stable: ordinary, canary: canary}.many(horizon)
}

var errorsMetric = policy(required).Metrics[0] // with its defaults

// harmAt gives the number of conversations after which the judge's harm test alarms at a level; 0: it does not.
func harmAt(t testing.TB, all []Conversation, level float64) int {
	harmful := func(n int) bool {
		v, err := weigh(Evidence{Conversations: all[:n]}, errorsMetric, 0, 3, lifecycle.Levels{Harm: level, Promote: 0.05})
		require.NoError(t, err)
		return v.Harmful
	}
	if !harmful(len(all)) {
		return 0
	}
	return 1 + search(len(all), harmful) // the e-value's peak only grows, so it holds from some n on
}

func canaries(all []Conversation) (n int) {
	for _, c := range all {
		if c.Canary {
			n++
		}
	}
	return n
}

// minutes gives how many canary conversations each minute had, how many of them failed, and stable's rate.
func minutes(all []Conversation) (served, failed []int, stable []float64) {
	for from := 0; from+perMinute <= len(all); from += perMinute {
		var counts [2][2]int
		for _, c := range all[from : from+perMinute] {
			side, bad := 0, 0
			if c.Canary {
				side = 1
			}
			if len(c.Events) > 0 {
				bad = 1
			}
			counts[side][bad]++
		}
		served, failed = append(served, counts[1][0]+counts[1][1]), append(failed, counts[1][1])
		stable = append(stable, float64(counts[0][1])/float64(counts[0][0]+counts[0][1]))
	}
	return served, failed, stable
}

// rule is another way to decide: a score per minute that only grows, and the bar over which it alarms. The bar is tuned to
// the level that the judge has.
type rule struct {
	name  string
	score func(all []Conversation) []float64
}

// threshold is Argo Rollouts' analysis as its documentation describes it: each minute's measurement fails when the rate of
// errors is over a limit, and the rollout is aborted when more measurements failed in all than failureLimit. Minutes
// without canary traffic are inconclusive.
func threshold(limit float64) rule {
	return rule{fmt.Sprintf("threshold %.0f%% a minute", 100*limit), func(all []Conversation) []float64 {
		served, failed, _ := minutes(all)
		out := make([]float64, len(served))
		failures := 0.0
		for i := range served {
			if served[i] > 0 && float64(failed[i])/float64(served[i]) > limit {
				failures++
			}
			out[i] = failures
		}
		return out
	}}
}

// points is how many minutes Kayenta's judge compares at a time here.
const points = 50

// mannWhitney compares fifty minutes of canary and stable at a time by the rank-sum statistic, as Kayenta's judge does; its
// score is the largest so far, standardised with ties.
func mannWhitney() rule {
	return rule{"Mann-Whitney on 50 minutes", func(all []Conversation) []float64 {
		served, failed, stable := minutes(all)
		out := make([]float64, len(served))
		largest := math.Inf(-1)
		for i := range out {
			if (i+1)%points == 0 {
				var canary []float64
				for j := i + 1 - points; j <= i; j++ {
					if served[j] > 0 {
						canary = append(canary, float64(failed[j])/float64(served[j]))
					}
				}
				largest = max(largest, rankSum(canary, stable[i+1-points:i+1]))
			}
			out[i] = largest
		}
		return out
	}}
}

// rankSum is Mann and Whitney's statistic of a over b, standardised (Annals of Mathematical Statistics 18:50, 1947), with
// the usual correction of its variance for ties.
func rankSum(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 0
	}
	type ranked struct {
		value float64
		first bool
	}
	var all []ranked
	for _, v := range a {
		all = append(all, ranked{v, true})
	}
	for _, v := range b {
		all = append(all, ranked{v, false})
	}
	slices.SortFunc(all, func(x, y ranked) int {
		switch {
		case x.value < y.value:
			return -1
		case x.value > y.value:
			return 1
		}
		return 0
	})
	n, m, total := float64(len(a)), float64(len(b)), float64(len(all))
	sum, ties := 0.0, 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].value == all[i].value {
			j++
		}
		size := float64(j - i)
		ties += size*size*size - size
		for k := i; k < j; k++ {
			if all[k].first {
				sum += float64(i+j+1) / 2
			}
		}
		i = j
	}
	variance := n * m / 12 * (total + 1 - ties/(total*(total-1)))
	if variance <= 0 {
		return 0
	}
	return (sum - n*(n+1)/2 - n*m/2) / math.Sqrt(variance)
}

// tune gives the lowest bar that at most the level of unchanged canaries pass.
func (r rule) tune(runs int) float64 {
	ends := make([]float64, runs)
	for seed := range runs {
		score := r.score(errorsAt(uint64(seed)+1<<32, ordinary))
		ends[seed] = score[len(score)-1]
	}
	slices.Sort(ends)
	return ends[runs-1-int(strict*float64(runs))]
}

// exposedUntil gives the canary conversations until the score passes the bar; all of the horizon's where it does not.
func (r rule) exposedUntil(all []Conversation, bar float64) (n int, alarmed bool) {
	for i, s := range r.score(all) {
		if s > bar {
			return canaries(all[:(i+1)*perMinute]), true
		}
	}
	return canaries(all), false
}

// quantiles of how many canary conversations a bad release met.
type quantiles struct {
	median, p95 int
	found       float64 // part of the runs in which it was found within the horizon
}

func quantilesOf(needed []int, found int) quantiles {
	slices.Sort(needed)
	return quantiles{needed[len(needed)/2], needed[len(needed)*95/100], float64(found) / float64(len(needed))}
}

func (q quantiles) String() string {
	return fmt.Sprintf("%d / %d | %.1f%%", q.median, q.p95, 100*q.found)
}

func judgeExposes(t testing.TB, runs int, rate float64) quantiles {
	var needed []int
	found := 0
	for seed := range runs {
		all := errorsAt(uint64(seed), rate)
		n := harmAt(t, all, strict)
		if n == 0 {
			n = len(all)
		} else {
			found++
		}
		needed = append(needed, canaries(all[:n]))
	}
	return quantilesOf(needed, found)
}

func (r rule) exposes(runs int, rate, bar float64) quantiles {
	var needed []int
	found := 0
	for seed := range runs {
		n, alarmed := r.exposedUntil(errorsAt(uint64(seed), rate), bar)
		if alarmed {
			found++
		}
		needed = append(needed, n)
	}
	return quantilesOf(needed, found)
}

// underTheRule is judgeExposes with the exposure rule deciding who is on the canary.
func underTheRule(t testing.TB, runs int, rate float64) quantiles {
	var needed []int
	found := 0
	for seed := range runs {
		s := splitter(t, Config{}, 500)
		s.key = append([]byte{byte(seed), byte(seed >> 8)}, testKey...)
		run := newTraffic(uint64(seed+10), 1).run(40_000, 500, func(_ *talk, r Request) Choice { return s.Admit(r) })
		all := run.conversations()
		random := rand.New(rand.NewPCG(uint64(seed), 78))
		for i := range all {
			bad := ordinary
			if all[i].Canary {
				bad = rate
			}
			if random.Float64() < bad {
				all[i].Events = map[string]int64{required.Name: int64(i)}
			}
		}
		n := harmAt(t, all, strict)
		if n == 0 {
			n = len(all)
		} else {
			found++
		}
		needed = append(needed, canaries(all[:n]))
	}
	return quantilesOf(needed, found)
}

// shareAlarms counts runs of unchanged traffic in which the share test alarms within so many conversations.
func shareAlarms(t testing.TB, runs, conversations int) (alarms int) {
	for seed := range runs {
		random := seeded(seed + 900_000)
		all := make([]Conversation, conversations)
		for i := range all {
			all[i] = Conversation{Coin: true, Propensity: share, Canary: random.Float64() < share}
		}
		log, _, err := Overexposure(all, levels.Share)
		require.NoError(t, err)
		if log > math.Log(1/levels.Share) {
			alarms++
		}
	}
	return alarms
}

func shareNeeds(t *testing.T, runs int, served float64) quantiles {
	var needed []int
	for seed := range runs {
		needed = append(needed, detection(t, seed, served))
	}
	return quantilesOf(needed, runs)
}

var effects = []float64{0.05, 0.1, 0.2}

const judgeIntro = `# What the judge promises, and what others cost

This page is written by a test: ` + "`make judge-table`" + ` calls the functions of ` + "`internal/rollout`" + ` that decide in production and writes what it
saw. Numbers are counted in conversations, each of which is one observation. "median / p95" is over the runs.

`

func writeJudge(t *testing.T, runs int) []byte {
	var out bytes.Buffer
	out.WriteString(judgeIntro)
	fmt.Fprintf(&out, "## The share test\n\n5%% intended, level %g. Conversations until the rollout is ended as invalid, %d runs each (%d for 10%% and 7%%):\n\n", levels.Share, runs, runs/10)
	out.WriteString("| served in truth | median / p95 | found |\n|---|---|---|\n")
	for _, served := range []float64{0.4, 0.2, 0.1, 0.07} {
		n := runs
		if served < 0.2 {
			n = runs / 10
		}
		fmt.Fprintf(&out, "| %.0f%% | %s |\n", 100*served, shareNeeds(t, n, served))
	}
	quiet := runs / 10
	fmt.Fprintf(&out, "\nWith 5%% served it alarmed in %d of %d runs of 100,000 conversations, looking after each.\n", shareAlarms(t, quiet, 100_000), quiet)

	fmt.Fprintf(&out, `
## A release that makes errors

Stable has errors in %g%% of its conversations, the canary's share is %g%%, everybody may alarm falsely in %g%% of the
rollouts of %d conversations (%d a minute, so 200 minutes and 1,000 canary conversations). How many canary conversations the bad release
meets until it is rolled back (all %d where it is not found), %d runs:

`, 100*ordinary, 100*share, 100*strict, horizon, perMinute, horizon*5/100, runs/5)
	out.WriteString("| decides | errors in truth | median / p95 | found in time |\n|---|---|---|---|\n")
	for _, rate := range effects {
		fmt.Fprintf(&out, "| the judge | %g%% | %s |\n", 100*rate, judgeExposes(t, runs/5, rate))
	}
	fmt.Fprintf(&out, "| the judge, the exposure rule in force | 10%% | %s |\n", underTheRule(t, runs/20, 0.1))
	for _, r := range []rule{threshold(0), threshold(0.25), threshold(0.35), mannWhitney()} {
		bar := r.tune(runs / 5)
		for _, rate := range effects {
			fmt.Fprintf(&out, "| %s, bar %.3g | %g%% | %s |\n", r.name, bar, 100*rate, r.exposes(runs/5, rate, bar))
		}
	}
	out.WriteString(`
The threshold is Argo Rollouts' analysis as documented: one measurement a minute fails over a rate of errors, and the
rollout is aborted when more measurements failed in all than failureLimit (the bar). Mann-Whitney is what Kayenta's judge
does, here on fifty minutes at a time, with the bar on its standardised statistic. Both bars are the lowest that keep the
level; neither tool tunes them by itself, and both are shown at their best: on exactly the traffic that they were tuned to. A row
in which another needs fewer than the judge stays.
A threshold that was tuned to one rate of errors alarms falsely, or never, when stable's own rate changes; the judge
compares with stable and needs no tuning.
`)
	writeIntervals(t, &out, runs/10)
	writeShadow(t, &out, runs)
	return out.Bytes()
}

func writeIntervals(t *testing.T, out *bytes.Buffer, runs int) {
	fmt.Fprintf(out, `
## Intervals

Beside each verdict stand confidence sequences: limits that hold at every look at once, also at the one at which somebody
stops. They are what the judge's own e-processes do not reject, so they never contradict it: a metric is harmful if and
only if the low limit of the canary's risk, as a multiple of stable's, is at or over what is tolerated (over the whole rollout,
at the metric's part of %g%%), and who served its events proves it safe if and only if the high limit is at or under the step's margin (in
the step, at %g%%). The canary's rate has limits of its own, whose high one is what a floor is held against, and so has the share
that was served. Of %d rollouts of two steps of 300 and 600 conversations, 10%% of them with events in waves at stable, looked at
after every tenth conversation, the limits of the ratio were ever on the wrong side in:

| canary's risk, times stable's | low limit | high limit |
|---|---|---|
`, 100*levels.Harm, 100*levels.Promote, runs)
	for _, ratio := range []float64{0.5, 1, 2, 5} {
		m := lost(t, runs, 10, ratio, false, func(p float64) float64 { return p })
		fmt.Fprintf(out, "| %g | %.1f%% | %.1f%% |\n", ratio, 100*float64(m.harm)/float64(runs), 100*float64(m.safe)/float64(runs))
	}
	out.WriteString(`
What the limits need is what the judge needs: propensities that are what they say. A ratio that changes during a rollout
has no interval that holds it; the low limit remembers the worst of it, the high limit is of the step. So the two may
cross, which says that no one ratio fits. Limits of rates suppose a rate that stays the same through the step, which a day's waves
are not; those of the ratio do not mind waves that meet both sides.
`)
}

// TestTheJudgesPricesAreTheDocumentedOnes plays a part, and all of the page when REFIT_LONG is 1.
func TestTheJudgesPricesAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	const full = 10_000
	if *update {
		require.NoError(t, os.WriteFile(judgeFile, writeJudge(t, full), 0o644))
	}
	page, err := os.ReadFile(judgeFile)
	require.NoError(t, err)
	require.Contains(t, string(page), judgeIntro)
	if os.Getenv("REFIT_LONG") == "1" && !raceDetector && !*update {
		require.Equal(t, string(page), string(writeJudge(t, full)), "run make judge-table")
	}
	const slack = 1.25 // of a short run
	for rate, most := range map[float64]quantiles{0.05: {median: 400, p95: 1000}, 0.1: {median: 70, p95: 190}, 0.2: {median: 22, p95: 60}} {
		q := judgeExposes(t, sized(60, 2000), rate)
		t.Logf("%v errors: %s", rate, q)
		require.LessOrEqual(t, float64(q.median), slack*float64(most.median), "%v", rate)
		require.LessOrEqual(t, float64(q.p95), slack*float64(most.p95), "%v", rate)
	}
	q := underTheRule(t, sized(40, 500), 0.1)
	t.Logf("under the rule: %s", q)
	require.LessOrEqual(t, float64(q.median), slack*85)
	require.LessOrEqual(t, float64(q.p95), slack*225)
	for _, r := range []rule{threshold(0.25), mannWhitney()} {
		bar := r.tune(sized(200, 2000))
		other := r.exposes(sized(60, 2000), 0.1, bar)
		ours := judgeExposes(t, sized(60, 2000), 0.1)
		t.Logf("%s: %s, the judge %s", r.name, other, ours)
	}
}
