package serving_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// The test binary is also two programs: a model server that speaks just enough of the API for the mechanics
// of processes, and a worker that loads a release and ends.
func TestMain(m *testing.M) {
	switch os.Getenv("REFIT_TEST_PROGRAM") {
	case "server":
		os.Exit(fakeServer(os.Args[1:]))
	case "worker":
		os.Exit(fakeWorker(os.Args[1]))
	}
	os.Exit(m.Run())
}

func fakeServer(args []string) int {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[args[i]] = args[i+1]
	}
	mode := os.Getenv("REFIT_TEST_MODE")
	if mode == "broken" {
		fmt.Println("cannot read the weights")
		return 3
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	listener, err := net.Listen("tcp", flags["--listen"])
	if err != nil {
		return 1
	}
	var requests atomic.Int64
	model, _, _ := strings.Cut(flags["--model"], "=")
	embedder, _, _ := strings.Cut(flags["--embedder"], "=")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		names := []map[string]string{}
		for _, name := range []string{model, embedder} {
			if name != "" {
				names = append(names, map[string]string{"id": name})
			}
		}
		if mode == "other" {
			names = nil
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": names})
	})
	mux.HandleFunc("POST /v1/completions", func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, `{}`)
	})
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{}`) })
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE refit_runtime_requests_total counter\nrefit_runtime_requests_total{model=%q,endpoint=\"completions\",outcome=\"ok\"} %d\n", model, requests.Load())
	})
	go func() { _ = http.Serve(listener, mux) }()
	address := flags["--address-file"]
	if os.WriteFile(address+".new", []byte(listener.Addr().String()), 0o600) != nil || os.Rename(address+".new", address) != nil {
		return 1
	}
	for range stop {
		if mode != "deaf" {
			return 0
		}
	}
	return 0
}

// fakeWorker loads the placement that stands in a file, prints the server's pid and waits to be killed.
func fakeWorker(file string) int {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 1
	}
	var in struct {
		StateDir string
		P        serving.Placement
	}
	if json.Unmarshal(raw, &in) != nil {
		return 1
	}
	engine, err := serving.NewLocal(fakeConfig(in.StateDir, ""))
	if err != nil {
		return 1
	}
	if _, err := engine.Load(context.Background(), in.P); err != nil {
		fmt.Println(err)
		return 1
	}
	servers, err := engine.List(context.Background())
	if err != nil || len(servers) != 1 {
		return 1
	}
	fmt.Println(strconv.Itoa(servers[0].PID))
	select {}
}

func fakeConfig(stateDir, mode string) serving.LocalConfig {
	return serving.LocalConfig{
		StateDir: stateDir,
		Command:  []string{os.Args[0]},
		Env:      []string{"REFIT_TEST_PROGRAM=server", "REFIT_TEST_MODE=" + mode},
	}
}

func placement(model string) serving.Placement {
	release := lifecycle.Release{Service: "docs", Model: lifecycle.DigestOf([]byte(model))}
	return serving.Placement{
		Service:  lifecycle.Service{Name: "docs"}.WithDefaults(),
		ID:       release.ID(),
		Release:  release,
		ModelDir: "/models/" + model,
	}
}
