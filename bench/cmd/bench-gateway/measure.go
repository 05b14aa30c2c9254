package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/refitml/refit/bench/internal/contest"
	"github.com/refitml/refit/bench/internal/peers"
	"github.com/refitml/refit/bench/internal/process"
	"github.com/refitml/refit/bench/internal/subject"
)

// Names of those who take part, as the table spells them.
const (
	refit   = "refit gateway"
	bare    = "bare Go proxy"
	nginx   = "nginx"
	bifrost = "Bifrost core"

	// The gateway again, for what capture costs.
	metadata   = "metadata only"
	uncaptured = "no capture"
)

// field is everything that runs during a measurement.
type field struct {
	dir       string
	model     string
	proxies   []contest.Proxy
	variants  []contest.Proxy // of the gateway
	processes []*process.Process
	left      []string // who could not take part, and why
	log       *os.File
}

func (f *field) stop() {
	for _, p := range slices.Backward(f.processes) {
		if err := p.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	_ = f.log.Close() // everything is written
}

// proxyCore carries the proxy under load, otherCore the model server and the load.
const (
	proxyCore = 0
	otherCore = 1
)

// lineUp starts the model server and every proxy.
func lineUp(ctx context.Context, o settings) (*field, error) {
	if runtime.NumCPU() < 2 {
		return nil, errors.New("two cores are needed: one for the proxy, one for load and model server")
	}
	dir, err := os.MkdirTemp("", "refit-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("make a log: %w", err)
	}
	f := &field{dir: dir, log: log}
	if err := f.fill(ctx, o); err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

func (f *field) fill(ctx context.Context, o settings) error {
	addresses, err := freeAddresses(7)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	f.model = addresses[0]
	one := []string{"GOMAXPROCS=1"}
	if _, err := f.start(ctx, process.Spec{Name: "model server", Core: otherCore, Args: role(self, "model", f.model, ""), Env: one, Wait: f.model}); err != nil {
		return err
	}
	stack := os.Getenv("REFIT_STACK")
	if stack == "" {
		stack = os.Getenv("REFIT_TEST_STACK")
	}
	if stack == "" {
		return errors.New("REFIT_STACK is not set: run this by `make bench-gateway`, which starts a stack of its own")
	}
	if err := os.Setenv("REFIT_STACK", stack); err != nil {
		return err
	}
	ready, err := subject.Prepare(ctx, stack, f.model)
	if err != nil {
		return err
	}
	for i, name := range []string{refit, bare, bifrost} {
		args, env := role(self, strings.Fields(name)[0], addresses[i+1], f.model), one
		switch name {
		case refit:
			c := subject.Config{Program: o.refit, Data: filepath.Join(f.dir, "refit"), Listen: addresses[i+1], Service: subject.Content, Spans: f.model}
			args, env = c.Args(), c.Environment()
		case bifrost:
			args = role(self, "bifrost", addresses[i+1], f.model)
		}
		if err := f.join(ctx, name, addresses[i+1], args, env, ready.Header); err != nil {
			return err
		}
	}
	if err := f.addVariants(ctx, o, self, addresses[5:], ready.Header); err != nil {
		return err
	}
	args, err := peers.Nginx(filepath.Join(f.dir, "nginx"), addresses[4], f.model)
	if errors.Is(err, peers.ErrNoNginx) {
		f.left = append(f.left, nginx+": "+err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	return f.join(ctx, nginx, addresses[4], args, nil, nil)
}

func (f *field) start(ctx context.Context, s process.Spec) (*process.Process, error) {
	s.Log = f.log
	p, err := process.Start(ctx, s)
	if err != nil {
		said, _ := os.ReadFile(f.log.Name()) // whatever it says helps
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	f.processes = append(f.processes, p)
	return p, nil
}

// addVariants starts the gateway twice more, where that is to be measured: keeping no texts, and keeping nothing.
func (f *field) addVariants(ctx context.Context, o settings, self string, addresses []string, header map[string]string) error {
	if !o.wants(captures) {
		return nil
	}
	for i, v := range []struct{ name, program, service string }{{metadata, o.refit, subject.Metadata}, {uncaptured, self, subject.Content}} {
		c := subject.Config{Program: v.program, Data: filepath.Join(f.dir, v.name), Listen: addresses[i], Service: v.service, Spans: f.model}
		args := c.Args()
		if v.name == uncaptured {
			args = role(self, "uncaptured", c.Listen, f.model)
		}
		p, err := f.start(ctx, process.Spec{Name: v.name, Core: proxyCore, Args: args, Env: c.Environment(), Wait: c.Listen})
		if err != nil {
			return err
		}
		f.variants = append(f.variants, contest.Proxy{Name: v.name, Address: c.Listen, Process: p, Header: header, Model: v.service})
	}
	return nil
}

func (f *field) join(ctx context.Context, name, address string, args, env []string, header map[string]string) error {
	p, err := f.start(ctx, process.Spec{Name: name, Core: proxyCore, Args: args, Env: env, Wait: address})
	if err != nil {
		return err
	}
	f.proxies = append(f.proxies, contest.Proxy{Name: name, Address: address, Process: p, Header: header, Model: subject.Content})
	return nil
}

func role(self, name, listen, model string) []string {
	return []string{self, "serve", "-role", name, "-listen", listen, "-model", model}
}

// freeAddresses finds ports that nobody listens on.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close()
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

// Row is one comparison with what was asked of it.
type Row struct {
	Scenario string  `json:"scenario"`
	Measure  string  `json:"measure"`
	Value    float64 `json:"value"` // median over rounds
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Goal     string  `json:"goal,omitempty"`
	Reached  bool    `json:"reached"`
}

// Rate is what one proxy did by itself; only ratios compare.
type Rate struct {
	Scenario     string  `json:"scenario"`
	Proxy        string  `json:"proxy"`
	PerCPUSecond float64 `json:"per_cpu_second"`
	PerSecond    float64 `json:"per_second"`
	Unit         string  `json:"unit"`
}

// Result is everything that was measured.
type Result struct {
	Rates   []Rate   `json:"rates"`
	Rows    []Row    `json:"rows"`
	LeftOut []string `json:"left_out,omitempty"`
}

// goal of a ratio by scenario and peer.
type goal struct {
	scenario, peer string
	atLeast        float64
}

func goals() []goal {
	return []goal{
		{"small", bare, 0.95}, {"small", nginx, 0.40}, {"small", bifrost, 2},
		{"8 KB prompt", bare, 0.90}, {"8 KB prompt", nginx, 0}, {"8 KB prompt", bifrost, 2},
		{"64 KB prompt", bare, 0.80}, {"64 KB prompt", nginx, 0}, {"64 KB prompt", bifrost, 2},
		{"stream", bare, 0.95}, {"stream", nginx, 0.60}, {"stream", bifrost, 2},
	}
}

func measure(ctx context.Context, o settings) error {
	f, err := lineUp(ctx, o)
	if err != nil {
		return err
	}
	defer f.stop()
	result := Result{LeftOut: f.left}
	say := func(line string) { fmt.Fprintln(os.Stderr, line) }
	if o.wants(held) { // before anything else: a process that has worked holds garbage, which would count as idle
		waves, err := contest.Waves(f.proxy(refit), 1000, 10, 5)
		if err != nil {
			return err
		}
		result.addWaves(waves)
	}
	var reference map[string][]contest.Sample
	for _, s := range contest.Scenarios() {
		if !o.wants(s.Name) {
			continue
		}
		samples, err := contest.Saturated(ctx, s, f.proxies, o.rounds, o.length, say)
		if err != nil {
			return err
		}
		if s.Name == "small" {
			reference = samples
		}
		result.add(s, f.proxies, samples)
	}
	if err := f.rest(ctx, o, reference, &result); err != nil {
		return err
	}
	if o.output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	result.print(os.Stdout)
	return nil
}

// Names of what is measured beside the scenarios of a load.
const (
	latency     = "latency"
	held        = "held"
	allocations = "allocations"
	captures    = "capture"
)

// rest measures latency, capture and allocations.
func (f *field) rest(ctx context.Context, o settings, reference map[string][]contest.Sample, result *Result) error {
	if o.wants(latency) && reference != nil {
		if err := f.latency(ctx, o, reference, result); err != nil {
			return err
		}
	}
	if o.wants(captures) {
		if err := f.capture(ctx, o, result); err != nil {
			return err
		}
	}
	if !o.wants(allocations) {
		return nil
	}
	own := f.proxy(refit)
	each, err := contest.AllocationsPerEvent(ctx, own, "http://"+own.Address+"/metrics")
	if err != nil {
		return err
	}
	result.Rows = append(result.Rows, Row{
		Scenario: "stream", Measure: "allocations per event", Value: each, Low: each, High: each, Goal: "at most 0.15", Reached: each <= 0.15,
	})
	return nil
}

// capture measures what it costs to keep contents, or metadata only, against keeping nothing.
func (f *field) capture(ctx context.Context, o settings, result *Result) error {
	all := append([]contest.Proxy{f.proxy(refit)}, f.variants...)
	for _, s := range contest.Scenarios()[:2] {
		samples, err := contest.Saturated(ctx, s, all, o.rounds, o.length, func(line string) { fmt.Fprintln(os.Stderr, "capture,", line) })
		if err != nil {
			return err
		}
		for _, name := range []string{refit, metadata} {
			median, low, high := contest.Ratio(samples, name, uncaptured)
			kept := "capture of content, share of the time"
			if name == metadata {
				kept = "capture of metadata, share of the time"
			}
			result.Rows = append(result.Rows, Row{
				Scenario: s.Name, Measure: kept, Value: 1 - median, Low: 1 - high, High: 1 - low, Goal: "at most 0.10", Reached: 1-median <= 0.1,
			})
		}
	}
	return nil
}

func (f *field) proxy(name string) contest.Proxy {
	return f.proxies[slices.IndexFunc(f.proxies, func(p contest.Proxy) bool { return p.Name == name })]
}

// latency measures what is added to an answer's time at half of the rate that the slower one reached.
func (f *field) latency(ctx context.Context, o settings, reference map[string][]contest.Sample, result *Result) error {
	var speeds []float64
	for _, sample := range append(slices.Clone(reference[refit]), reference[bare]...) {
		speeds = append(speeds, sample.PerSecond)
	}
	rate := slices.Min(speeds) / 2
	direct := contest.Proxy{Name: "model server", Address: f.model}
	own, other := f.proxy(refit), f.proxy(bare)
	added, err := contest.Latency(ctx, contest.Scenarios()[0], direct, []contest.Proxy{other, own}, o.rounds, o.length, rate)
	if err != nil {
		return err
	}
	result.addLatency(added, rate)
	return nil
}

func (r *Result) add(s contest.Scenario, proxies []contest.Proxy, samples map[string][]contest.Sample) {
	for _, p := range proxies {
		var cpu, wall []float64
		for _, sample := range samples[p.Name] {
			cpu, wall = append(cpu, sample.PerCPUSecond), append(wall, sample.PerSecond)
		}
		r.Rates = append(r.Rates, Rate{Scenario: s.Name, Proxy: p.Name, PerCPUSecond: contest.Median(cpu), PerSecond: contest.Median(wall), Unit: s.Unit})
	}
	for _, g := range goals() {
		if g.scenario != s.Name || samples[g.peer] == nil {
			continue
		}
		median, low, high := contest.Ratio(samples, refit, g.peer)
		row := Row{Scenario: s.Name, Measure: "of " + g.peer, Value: median, Low: low, High: high, Reached: median >= g.atLeast}
		if g.atLeast > 0 {
			row.Goal = fmt.Sprintf("at least %.2f", g.atLeast)
		}
		r.Rows = append(r.Rows, row)
	}
}

func (r *Result) addLatency(added map[string][]contest.Added, rate float64) {
	for _, q := range []struct {
		name string
		of   func(contest.Added) time.Duration
	}{
		{"p50", func(a contest.Added) time.Duration { return a.P50 }},
		{"p99", func(a contest.Added) time.Duration { return a.P99 }},
	} {
		var ratios []float64
		for i := range added[refit] {
			ratios = append(ratios, float64(q.of(added[refit][i]))/float64(q.of(added[bare][i])))
		}
		slices.Sort(ratios)
		median, goal := contest.Median(ratios), "at most 1.10"
		if ratios[0] <= 0 {
			goal += ", not measurable so busy" // somebody was faster than the model server that it asked
		}
		r.Rows = append(r.Rows, Row{
			Scenario: fmt.Sprintf("small, %.0f a second", rate), Measure: "added " + q.name + " of " + bare + "'s",
			Value: median, Low: ratios[0], High: ratios[len(ratios)-1], Goal: goal, Reached: ratios[0] > 0 && median <= 1.1,
		})
	}
}

func (r *Result) addWaves(waves []contest.Held) {
	var each []float64
	for _, w := range waves {
		each = append(each, w.PerHeld/1024)
	}
	first, last := each[0], each[len(each)-1]
	highest := slices.Max(each)
	r.Rows = append(r.Rows,
		Row{Scenario: "held", Measure: "KiB of memory for each of 1,000 streams", Value: highest, Low: slices.Min(each), High: highest, Goal: "at most 80", Reached: highest <= 80},
		Row{Scenario: "held", Measure: "last wave of the first", Value: last / first, Low: last / first, High: last / first, Goal: "at most 1.10", Reached: last <= 1.1*first},
	)
}
