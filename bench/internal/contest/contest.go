// Package contest measures proxies against each other in interleaved rounds: in every round each of them gets the same
// load one after the other, and only ratios within a round count. A machine that is busy for a while slows all.
package contest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/refitml/refit/bench/internal/load"
	"github.com/refitml/refit/bench/internal/modelserver"
	"github.com/refitml/refit/bench/internal/process"
)

// Proxy is one that takes part.
type Proxy struct {
	Name    string
	Address string
	Process *process.Process
	Header  map[string]string
	Model   string // that it is asked for
}

// Scenario is one kind of load.
type Scenario struct {
	Name        string
	Prompt      int // bytes of the last user message
	Chunks      int // of a stream; 0: no stream
	Pace        time.Duration
	Connections int
	Unit        string // what is counted: "requests" or "events"
}

// Scenarios are what users send: short questions, long ones, and streams.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "small", Prompt: 100, Connections: 32, Unit: "requests"},
		{Name: "8 KB prompt", Prompt: 8 << 10, Connections: 32, Unit: "requests"},
		{Name: "64 KB prompt", Prompt: 64 << 10, Connections: 32, Unit: "requests"},
		{Name: "stream", Prompt: 100, Chunks: 200, Pace: 5 * time.Millisecond, Connections: 256, Unit: "events"},
	}
}

// variety is how many conversations a load is made of.
const variety = 2048

// Bodies makes requests of many conversations; the model's name is the service's.
func (s Scenario) Bodies(model string) [][]byte {
	ask := ""
	if s.Chunks > 0 {
		ask = modelserver.Ask(s.Chunks, s.Pace)
	}
	const sentence = "Package bytes implements functions for the manipulation of byte slices; say \\\"how\\\".\\n"
	text := strings.Repeat(sentence, s.Prompt/len(sentence)+1)[:0]
	for len(text)+len(sentence) <= max(s.Prompt, len(sentence)) {
		text += sentence
	}
	bodies := make([][]byte, variety)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":"%squestion %d: %s"}],"stream":%t,"temperature":0.7}`,
			model, ask, i, text, s.Chunks > 0)
	}
	return bodies
}

func (s Scenario) target(p Proxy, bodies [][]byte) load.Target {
	return load.Target{Address: p.Address, Header: p.Header, Bodies: bodies, Streams: s.Chunks > 0}
}

// Sample is one proxy's part of a round.
type Sample struct {
	PerCPUSecond float64
	PerSecond    float64
	Faults       int64
	Fault        string
}

// Saturated gives each proxy as much as it takes, round after round; samples[proxy][round].
func Saturated(ctx context.Context, s Scenario, proxies []Proxy, rounds int, length time.Duration, say func(string)) (map[string][]Sample, error) {
	bodies, samples := map[string][][]byte{}, map[string][]Sample{}
	for _, p := range proxies { // connections, pools and caches are warm before the first round
		if bodies[p.Model] == nil {
			bodies[p.Model] = s.Bodies(p.Model)
		}
		if _, err := round(ctx, s, p, bodies[p.Model], length/2); err != nil {
			return nil, err
		}
	}
	for r := range rounds {
		order := slices.Clone(proxies)
		if r%2 == 1 {
			slices.Reverse(order) // nobody is always after the same neighbour
		}
		for _, p := range order {
			sample, err := round(ctx, s, p, bodies[p.Model], length)
			if err != nil {
				return nil, err
			}
			if sample.Faults > 0 {
				say(fmt.Sprintf("%s, %s: %d faults, the first: %s", s.Name, p.Name, sample.Faults, sample.Fault))
			}
			samples[p.Name] = append(samples[p.Name], sample)
		}
		say(fmt.Sprintf("%s: round %d of %d", s.Name, r+1, rounds))
	}
	return samples, nil
}

func round(ctx context.Context, s Scenario, p Proxy, bodies [][]byte, length time.Duration) (Sample, error) {
	before, err := p.Process.CPU()
	if err != nil {
		return Sample{}, err
	}
	limited, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	began := time.Now()
	count := load.Saturate(limited, s.target(p, bodies), s.Connections)
	took := time.Since(began).Seconds()
	after, err := settled(ctx, p)
	if err != nil {
		return Sample{}, err
	}
	if err := ctx.Err(); err != nil {
		return Sample{}, err
	}
	n := float64(count.Answers)
	if s.Unit == "events" {
		n = float64(count.Events)
	}
	cpu := (after - before).Seconds()
	if n == 0 || cpu == 0 {
		return Sample{}, fmt.Errorf("%s, %s: nothing was answered (%d faults, the first: %s)", s.Name, p.Name, count.Faults, count.Fault)
	}
	return Sample{PerCPUSecond: n / cpu, PerSecond: n / took, Faults: count.Faults, Fault: count.Fault}, nil
}

// settled waits until a proxy has nothing to do any more and gives its processor time: what it does behind its answers,
// as bringing what it captured to a database, belongs to them.
func settled(ctx context.Context, p Proxy) (time.Duration, error) {
	const pause, idle, most = 200 * time.Millisecond, 10 * time.Millisecond, 30 * time.Second
	before, err := p.Process.CPU()
	for limit := time.Now().Add(most); err == nil && time.Now().Before(limit) && ctx.Err() == nil; {
		time.Sleep(pause)
		var now time.Duration
		if now, err = p.Process.CPU(); now-before <= idle {
			return now, err
		}
		before = now
	}
	return before, err
}

// Ratio is the median, lowest and highest over rounds of a's efficiency by b's in the same round.
func Ratio(samples map[string][]Sample, a, b string) (median, low, high float64) {
	var ratios []float64
	for i := range min(len(samples[a]), len(samples[b])) {
		ratios = append(ratios, samples[a][i].PerCPUSecond/samples[b][i].PerCPUSecond)
	}
	if len(ratios) == 0 {
		return 0, 0, 0
	}
	slices.Sort(ratios)
	return Median(ratios), ratios[0], ratios[len(ratios)-1]
}

// Median is that of values, which it sorts.
func Median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return values[n/2]
	}
	return (values[n/2-1] + values[n/2]) / 2
}
