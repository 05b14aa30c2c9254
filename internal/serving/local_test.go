package serving_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// newLocal makes an engine whose servers end with the test.
func newLocal(t *testing.T, config serving.LocalConfig) *serving.Local {
	t.Helper()
	engine, err := serving.NewLocal(config)
	require.NoError(t, err)
	t.Cleanup(func() {
		servers, err := engine.List(context.Background())
		require.NoError(t, err)
		for _, s := range servers {
			require.NoError(t, engine.Unload(context.Background(), s.Name))
		}
	})
	return engine
}

func onlyServer(t *testing.T, engine *serving.Local) serving.Server {
	t.Helper()
	servers, err := engine.List(t.Context())
	require.NoError(t, err)
	require.Len(t, servers, 1)
	return servers[0]
}

// gone waits until a process is gone; children of this process are reaped by the engine.
func gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 10*time.Second, 5*time.Millisecond)
}

func TestLoadIsIdempotent(t *testing.T) {
	t.Parallel()
	engine := newLocal(t, fakeConfig(t.TempDir(), ""))
	p := placement("a")
	p.Release.Embedder = lifecycle.DigestOf([]byte("e"))
	p.EmbedderDir = "/embedders/e"

	first, err := engine.Load(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, first, 1)
	require.Equal(t, p.ID, first[0].Release)
	require.Equal(t, p.Release.ServedName(), first[0].Model)
	require.Equal(t, serving.EmbedderName(p.Release.Embedder), first[0].Embedder)
	require.Equal(t, serving.Verified, first[0].Attribution)
	require.True(t, first[0].Ready)
	require.Equal(t, 4, first[0].Capacity)
	server := onlyServer(t, engine)
	require.Equal(t, serving.ServerName(p.Release), server.Name)
	require.True(t, server.Alive)

	second, err := engine.Load(t.Context(), p)
	require.NoError(t, err)
	require.Equal(t, first[0].URL, second[0].URL)
	require.Equal(t, server.PID, onlyServer(t, engine).PID)

	counts, err := serving.Served(t.Context(), nil, second)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{p.Release.ServedName(): 3}, counts, "only the warm-up was served so far")

	require.NoError(t, engine.Unload(t.Context(), first[0].Model), "the weights' name ends their servers too")
	gone(t, server.PID)
	servers, err := engine.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, servers)
	require.NoError(t, engine.Unload(t.Context(), server.Name), "unloading again is no error")
	_, err = serving.Served(t.Context(), nil, second)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "a server that cannot be read is never counted as zero")
}

func TestAnEmbedderIsServedAlone(t *testing.T) {
	t.Parallel()
	engine := newLocal(t, fakeConfig(t.TempDir(), ""))
	embedder := lifecycle.DigestOf([]byte("e"))
	p := serving.EmbedderAlone(placement("a").Service, embedder, "/embedders/e")

	endpoints, err := engine.Load(t.Context(), p)
	require.NoError(t, err)
	require.Len(t, endpoints, 1)
	require.Empty(t, endpoints[0].Model)
	require.Equal(t, serving.EmbedderName(embedder), endpoints[0].Embedder)
	server := onlyServer(t, engine)
	require.Equal(t, serving.ServerName(p.Release), server.Name)
	counts, err := serving.Served(t.Context(), nil, endpoints)
	require.NoError(t, err)
	require.Zero(t, counts[""], "nothing but embeddings was asked in the warm-up")

	require.NoError(t, os.Remove(filepath.Join(filepath.Dir(server.Log), server.Name+".json")))
	again, err := engine.Load(t.Context(), p)
	require.NoError(t, err, "found by its mark, its names are known by the server's")
	require.Equal(t, endpoints[0].URL, again[0].URL)
	require.Equal(t, endpoints[0].Embedder, again[0].Embedder)

	require.NoError(t, engine.Unload(t.Context(), server.Name))
	gone(t, server.PID)
}

func TestManyLoadersStartOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newLocal(t, fakeConfig(dir, "")) // cleans up
	var wg sync.WaitGroup
	urls := make([]string, 8)
	for i := range urls {
		wg.Go(func() {
			engine, err := serving.NewLocal(fakeConfig(dir, ""))
			if err != nil {
				return
			}
			if endpoints, err := engine.Load(t.Context(), placement("a")); err == nil {
				urls[i] = endpoints[0].URL
			}
		})
	}
	wg.Wait()
	for _, url := range urls {
		require.NotEmpty(t, url)
		require.Equal(t, urls[0], url)
	}
}

func TestServerOutlivesItsWorker(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"state file kept": false, "worker died before it wrote the state": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			engine := newLocal(t, fakeConfig(dir, ""))
			raw, err := json.Marshal(map[string]any{"StateDir": dir, "P": placement("a")})
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "placement.json")
			require.NoError(t, os.WriteFile(file, raw, 0o600))
			worker := exec.Command(os.Args[0], file)
			worker.Env = append(os.Environ(), "REFIT_TEST_PROGRAM=worker")
			out, err := worker.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, worker.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			require.NoError(t, err, line)
			require.NoError(t, worker.Process.Kill())
			_ = worker.Wait()

			if forget {
				require.NoError(t, os.Remove(filepath.Join(dir, serving.ServerName(placement("a").Release)+".json")))
			}
			_, err = engine.Load(t.Context(), placement("a"))
			require.NoError(t, err)
			pids := markedProcesses(t, dir)
			require.Equal(t, []int{pid}, pids, "the same process serves on, and no second one was started")
			require.NoError(t, engine.Unload(t.Context(), serving.ServerName(placement("a").Release)))
			require.Empty(t, markedProcesses(t, dir))
		})
	}
}

// markedProcesses finds the servers of a state folder by themselves, not through the engine's book-keeping.
func markedProcesses(t *testing.T, dir string) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		environment, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ"))
		if err == nil && strings.Contains(string(environment), "REFIT_SERVER="+dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestDeadServerIsStartedAgain(t *testing.T) {
	t.Parallel()
	engine := newLocal(t, fakeConfig(t.TempDir(), ""))
	_, err := engine.Load(t.Context(), placement("a"))
	require.NoError(t, err)
	before := onlyServer(t, engine)
	require.NoError(t, syscall.Kill(before.PID, syscall.SIGKILL))
	gone(t, before.PID)
	require.False(t, onlyServer(t, engine).Alive)

	endpoints, err := engine.Load(t.Context(), placement("a"))
	require.NoError(t, err)
	after := onlyServer(t, engine)
	require.NotEqual(t, before.PID, after.PID)
	response, err := http.Get(endpoints[0].URL + "/v1/models")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}

func TestIgnoredTermIsFollowedByKill(t *testing.T) {
	t.Parallel()
	config := fakeConfig(t.TempDir(), "deaf")
	config.Grace = 50 * time.Millisecond
	engine := newLocal(t, config)
	_, err := engine.Load(t.Context(), placement("a"))
	require.NoError(t, err)
	server := onlyServer(t, engine)
	require.NoError(t, engine.Unload(t.Context(), server.Name))
	gone(t, server.PID)
}

func TestServerThatNeverServesTheName(t *testing.T) {
	t.Parallel()
	for mode, says := range map[string]string{"broken": "ended", "other": "does not list"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := fakeConfig(dir, mode)
			config.StartTimeout = time.Second
			engine := newLocal(t, config)
			_, err := engine.Load(t.Context(), placement("a"))
			require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
			require.ErrorContains(t, err, says)
			require.ErrorContains(t, err, ".log")
			require.Empty(t, markedProcesses(t, dir), "nothing is left running")
		})
	}
}

func TestWhatTheLocalEngineRefuses(t *testing.T) {
	t.Parallel()
	engine := newLocal(t, fakeConfig(t.TempDir(), ""))
	adapter := placement("a")
	adapter.Release.Adapter = lifecycle.DigestOf([]byte("adapter"))
	_, err := engine.Load(t.Context(), adapter)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	require.ErrorContains(t, err, "adapter")
	_, err = engine.Load(t.Context(), serving.Placement{})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
	for _, name := range []string{"", "../x", ".hidden", "a/b"} {
		require.True(t, lifecycle.Is(engine.Unload(t.Context(), name), lifecycle.Invalid), name)
	}
	missing := fakeConfig(t.TempDir(), "")
	missing.Command = []string{"/nowhere/refit-runtime"}
	_, err = newLocal(t, missing).Load(t.Context(), placement("a"))
	require.True(t, lifecycle.Is(err, lifecycle.Refused), "%v", err)
	_, err = serving.NewLocal(serving.LocalConfig{})
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}
