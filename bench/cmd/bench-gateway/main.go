// Command bench-gateway measures Refit's gateway against other proxies: in interleaved rounds, each pinned to one core,
// before a model server that answers at once. See bench/README.md. It needs a one-machine stack in REFIT_STACK or
// REFIT_TEST_STACK; `make bench-gateway` starts one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/refitml/refit/bench/internal/modelserver"
	"github.com/refitml/refit/bench/internal/peers"
	"github.com/refitml/refit/bench/internal/subject"
	"github.com/refitml/refit/internal/gateway"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-gateway:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "serve" {
		return serve(ctx, args[1:])
	}
	o, err := options(args)
	if err != nil {
		return err
	}
	return measure(ctx, o)
}

// serve plays one of the servers: this program starts itself anew for each, so that each has its own core.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	role := flags.String("role", "", "model, bare, bifrost or uncaptured")
	listen := flags.String("listen", "", "address to listen on")
	model := flags.String("model", "", "address of the model server")
	if err := flags.Parse(args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen as %s: %w", *role, err)
	}
	defer gateway.HeapRoom()() // as Refit's gateway has
	switch *role {
	case "model":
		return modelserver.Serve(listener)
	case "bare":
		return peers.ServeBare(listener, *model)
	case "bifrost":
		return peers.ServeBifrost(ctx, listener, *model)
	case "uncaptured":
		return subject.ServeUncaptured(ctx, listener, *model)
	}
	return fmt.Errorf("role: %q; give model, bare, bifrost or uncaptured", *role)
}

type settings struct {
	refit     string
	rounds    int
	length    time.Duration
	output    string
	scenarios string
}

// wants says whether something is to be measured.
func (o settings) wants(name string) bool {
	return o.scenarios == "" || slices.Contains(strings.Split(o.scenarios, ","), name)
}

func options(args []string) (settings, error) {
	var o settings
	flags := flag.NewFlagSet("bench-gateway", flag.ContinueOnError)
	flags.StringVar(&o.refit, "refit", "bin/refit", "the command under measurement")
	flags.IntVar(&o.rounds, "rounds", 7, "interleaved rounds of each scenario")
	flags.DurationVar(&o.length, "length", 3*time.Second, "of one proxy's part of a round")
	flags.StringVar(&o.output, "output", "text", "text or json")
	flags.StringVar(&o.scenarios, "scenarios", "", "names of what to measure, with commas: scenarios, latency (with small), capture, held, allocations; default all")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.length < 100*time.Millisecond {
		return o, errors.New("rounds, length: give at least 1 and 100ms")
	}
	if o.output != "text" && o.output != "json" {
		return o, fmt.Errorf("output: %q; give text or json", o.output)
	}
	return o, nil
}
