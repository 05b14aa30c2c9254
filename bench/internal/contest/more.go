package contest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/refitml/refit/bench/internal/load"
)

// Added is what a proxy adds to an answer's time at a rate that it can hold easily.
type Added struct{ P50, P99 time.Duration }

// Latency asks the model server itself and each proxy at the same rate, and gives by how much each proxy's quantiles
// are over the server's own in the same round; added[proxy][round].
func Latency(ctx context.Context, s Scenario, direct Proxy, proxies []Proxy, rounds int, length time.Duration, perSecond float64) (map[string][]Added, error) {
	bodies := s.Bodies(proxies[0].Model)
	added := map[string][]Added{}
	for range rounds {
		p50, p99, err := quantiles(ctx, s, direct, bodies, length, perSecond)
		if err != nil {
			return nil, err
		}
		for _, p := range proxies {
			a, b, err := quantiles(ctx, s, p, bodies, length, perSecond)
			if err != nil {
				return nil, err
			}
			added[p.Name] = append(added[p.Name], Added{P50: a - p50, P99: b - p99})
		}
	}
	return added, nil
}

func quantiles(ctx context.Context, s Scenario, p Proxy, bodies [][]byte, length time.Duration, perSecond float64) (p50, p99 time.Duration, err error) {
	limited, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	took, count := load.AtRate(limited, s.target(p, bodies), s.Connections, perSecond)
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	if count.Faults > 0 || len(took) == 0 {
		return 0, 0, fmt.Errorf("at a fixed rate, %s: %d faults, the first: %s", p.Name, count.Faults, count.Fault)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], nil
}

// Held is what one wave of streams that are held open costs.
type Held struct {
	Streams  int
	Resident int64 // bytes of the whole process while they are held
	PerHeld  float64
}

// Waves opens so many streams at once, several times, and gives what each wave holds over the idle process, which nobody
// asked anything before. The first waves are not counted: they bring the heap to its size, room for garbage included.
func Waves(p Proxy, streams, waves, uncounted int) ([]Held, error) {
	s := Scenario{Name: "held", Prompt: 100, Chunks: 40, Pace: 100 * time.Millisecond}
	bodies := s.Bodies(p.Model)
	idle, err := p.Process.Resident()
	if err != nil {
		return nil, err
	}
	var all []Held
	for wave := range uncounted + waves {
		var resident int64
		var readErr error
		count := load.Hold(s.target(p, bodies), streams, func() { resident, readErr = p.Process.Resident() })
		if readErr != nil {
			return nil, readErr
		}
		if count.Faults > 0 {
			return nil, fmt.Errorf("%d of %d held streams failed, the first: %s", count.Faults, streams, count.Fault)
		}
		if wave < uncounted {
			continue
		}
		all = append(all, Held{Streams: streams, Resident: resident, PerHeld: float64(resident-idle) / float64(streams)})
	}
	return all, nil
}

// AllocationsPerEvent is how many allocations one more event of a stream costs: the difference between long and short
// streams, so that what a request costs anyway falls out. metrics is the address of the proxy's Prometheus metrics.
func AllocationsPerEvent(ctx context.Context, p Proxy, metrics string) (float64, error) {
	const short, long, streams = 100, 2100, 20
	cost := func(chunks int) (float64, error) {
		s := Scenario{Name: "allocations", Prompt: 100, Chunks: chunks, Pace: 200 * time.Microsecond, Connections: streams}
		before, err := mallocs(ctx, metrics)
		if err != nil {
			return 0, err
		}
		count := load.Hold(s.target(p, s.Bodies(p.Model)), streams, func() {})
		if count.Faults > 0 {
			return 0, fmt.Errorf("count allocations: %d streams failed, the first: %s", count.Faults, count.Fault)
		}
		after, err := mallocs(ctx, metrics)
		return (after - before) / streams, err
	}
	if _, err := cost(short); err != nil { // warm
		return 0, err
	}
	few, err := cost(short)
	if err != nil {
		return 0, err
	}
	many, err := cost(long)
	return (many - few) / (long - short), err
}

func mallocs(ctx context.Context, url string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 8<<20))
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s shows no go_memstats_mallocs_total", url)
}
