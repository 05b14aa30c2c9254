package rollout

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

var update = flag.Bool("update", false, "write docs/exposure.md anew, which takes minutes")

const priceFile = "../../docs/exposure.md"

// price is what the rule costs in one setting.
type price struct {
	band, cap, threshold float64
	share                lifecycle.BasisPoints
	gateways             int
	load                 load
	rtt                  float64 // seconds
	requests             int

	reached, moved, window float64
	first                  int
	questions              float64 // to the store, a second
}

func usual(gateways int) price {
	return price{
		band: 3, cap: 60, threshold: 12, share: 500, gateways: gateways, rtt: 0.004, requests: 300_000,
		load: load{rate: 100, think: 20, tail: 1.5},
	}
}

// pay plays the setting.
func (p price) pay(t testing.TB) price {
	t.Helper()
	f := newFleet(t, p.gateways, Config{Band: p.band, Cap: p.cap, Threshold: p.threshold}, p.share)
	f.rtt = p.rtt
	run := f.serve(p.requests, p.load, 3)
	audit := Audit(run.accesses, 0)
	require.Zero(t, audit.Prefix)
	p.window, p.first = audit.Window, run.first
	bound := Bound(lifecycle.Exposure{Cap: p.cap, Threshold: p.threshold}, p.gateways) + float64(f.heard)/float64(unit)
	require.LessOrEqual(t, p.window, bound)
	p.reached, p.moved = run.reached(), run.movedPart()
	p.questions = float64(f.asked) / f.now
	return p
}

// lengths names the tails of the table.
var lengths = map[float64]string{0: "1", 1.5: "3, heavy tail", 1.1: "6, very heavy tail"}

func (p price) row() string {
	where := "one"
	if p.load.scatter {
		where = "any"
	}
	first := "none"
	if p.first >= 0 {
		first = fmt.Sprint(p.first)
	}
	return fmt.Sprintf("| %g | %g | %g | %s | %d | %g | %s | %s | %g | %.1f%% | %.2f%% | %s | %.0f | %.0f |", p.band, p.cap,
		p.threshold, p.share, p.gateways, p.load.rate, lengths[p.load.tail], where, p.rtt*1000, p.reached*100, p.moved*100,
		first, p.window, p.questions)
}

const priceHead = `| band | B | H | allowed | gateways | requests/s | turns | at gateway | store ms | reached | moved | first canary after | worst window over Σp | questions/s |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

// section is a part of the page.
type section struct {
	title, text string
	prices      []price
}

func with(p price, edit func(*price)) price { edit(&p); return p }

func sections() []section {
	var out []section
	add := func(title, text string, prices ...price) { out = append(out, section{title, text, prices}) }
	add("The defaults", `With these the goals hold, at one gateway and at twenty: 97% of the allowed share and more, 1% moved and less.`,
		usual(1), usual(2), usual(5), usual(20))
	for _, gateways := range []int{1, 20} {
		var ps []price
		for _, rate := range []float64{2, 20, 500, 2000} {
			ps = append(ps, with(usual(gateways), func(p *price) {
				p.load.rate = rate
				p.requests = max(p.requests, int(rate*400))
			}))
		}
		for _, tail := range []float64{0, 1.1} {
			ps = append(ps, with(usual(gateways), func(p *price) { p.load.tail = tail }))
		}
		ps = append(ps, with(usual(gateways), func(p *price) { p.load.scatter = true }))
		ps = append(ps, with(usual(gateways), func(p *price) { p.load.think = 2 }))
		add(fmt.Sprintf("Traffic, at %d", gateways), "The time between two turns is 20 s on average, and 2 s in the last row.", ps...)
	}
	var shares []price
	for _, gateways := range []int{1, 20} {
		for _, share := range []lifecycle.BasisPoints{100, 2500, 5000, 9500} {
			shares = append(shares, with(usual(gateways), func(p *price) { p.share = share }))
		}
	}
	add("Shares", "The smaller the share, the longer the wait.", shares...)
	for _, gateways := range []int{1, 20} {
		var ps []price
		for _, band := range []float64{1, 2, 5} {
			ps = append(ps, with(usual(gateways), func(p *price) { p.band = band }))
		}
		for _, h := range []float64{4, 8, 20} {
			ps = append(ps, with(usual(gateways), func(p *price) { p.threshold = h }))
		}
		add(fmt.Sprintf("Band and H, at %d", gateways), `A band of 1 cannot make up for the conversations that came while the credit was short. A low H begins sooner, and
moves more, because a conversation is longer than the credit that it began on.`, ps...)
	}
	var caps []price
	for _, c := range []float64{20, 40, 60, 120} {
		caps = append(caps, with(usual(20), func(p *price) { p.cap = c }))
	}
	caps = append(caps, usual(50), with(usual(50), func(p *price) { p.cap = 150 }))
	add("B, at twenty gateways and fifty", `A unit must lie ready at each gateway, so a B under the number of gateways moves conversations. B is the most that may
be used: twenty gateways use 67 where it allows it, fifty 142.`, caps...)
	var stores []price
	for _, rtt := range []float64{0.02, 0.1} {
		stores = append(stores, with(usual(1), func(p *price) { p.rtt = rtt }), with(usual(20), func(p *price) { p.rtt = rtt }))
	}
	add("A slow store", "No request waits for it.", stores...)
	return out
}

const priceIntro = `# What exact exposure costs

This page is written by a test: ` + "`make exposure-table`" + ` plays the exposure rule of ` + "`internal/rollout`" + ` (the splitter and the pool
that run in production) against simulated traffic and writes what it saw. The bound itself is no part of the price: in
every row every prefix is at most Σp, and every window at most Σp + B and what was earned before it and reported within
it.

- **allowed**: the share p. **B**: credit at most, over all gateways. **H**: credit from which new conversations toss.
- **turns**: the mean length of a conversation; heavy tails are Pareto with index 1.5 and 1.1, at most 400 turns.
- **at gateway**: conversations stay at one gateway, or every request comes to any.
- **store ms**: from a question to the pool to its answer. **questions/s**: what the store is asked, by all gateways.
- **reached**: part of the allowed share that was served. **moved**: canary conversations that had to go on at stable.
- **first canary after**: requests until the first conversation on the canary. **worst window over Σp**: in requests.
`

// writePrices plays everything. Sections stand in their order; settings are played side by side.
func writePrices(t *testing.T) []byte {
	all := sections()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i := range all {
		for j := range all[i].prices {
			wg.Go(func() {
				slots <- struct{}{}
				all[i].prices[j] = all[i].prices[j].pay(t)
				<-slots
			})
		}
	}
	wg.Wait()
	var out bytes.Buffer
	out.WriteString(priceIntro)
	for _, s := range all {
		fmt.Fprintf(&out, "\n## %s\n\n%s\n\n%s", s.title, s.text, priceHead)
		for _, p := range s.prices {
			out.WriteString(p.row() + "\n")
		}
	}
	return out.Bytes()
}

// TestThePricesAreTheDocumentedOnes plays the defaults, and all of the page when REFIT_LONG is 1.
func TestThePricesAreTheDocumentedOnes(t *testing.T) {
	t.Parallel()
	if *update {
		require.NoError(t, os.WriteFile(priceFile, writePrices(t), 0o644))
	}
	page, err := os.ReadFile(priceFile)
	require.NoError(t, err)
	for _, s := range sections() {
		require.Contains(t, string(page), "\n## "+s.title+"\n")
	}
	if os.Getenv("REFIT_LONG") == "1" && !raceDetector && !*update {
		require.Equal(t, string(page), string(writePrices(t)), "run make exposure-table")
	}
	for _, gateways := range []int{1, 20} {
		p := with(usual(gateways), func(p *price) { p.requests = 40_000 }).pay(t)
		setting := strings.Join(strings.Split(p.row(), "|")[:10], "|")
		require.Contains(t, string(page), setting+"|", "the page has the defaults")
		require.Greater(t, p.reached, 0.97, p.row())
		require.Less(t, p.moved, 0.01, p.row())
	}
	defaults := lifecycle.Service{}.WithDefaults().Rollout.Exposure
	require.Equal(t, lifecycle.Exposure{Band: usual(1).band, Cap: usual(1).cap, Threshold: usual(1).threshold}, defaults)
}
