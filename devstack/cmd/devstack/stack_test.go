package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/devstack/internal/layout"
)

// actAsCommand makes this test program behave as the command, so that tests need no second build of it.
const actAsCommand = "REFIT_DEVSTACK_TEST_ACTS_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(actAsCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// cli is the command with a data folder of the test's own.
type cli struct {
	program, data string
	env           []string
}

// newCLI picks a folder that user postgres can reach, which t.TempDir is not for root.
func newCLI(t *testing.T, env ...string) cli {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	parent, err := os.MkdirTemp("/var/tmp", "refit-devstack-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o711))
	c := cli{program: program, data: filepath.Join(parent, "data"), env: append(append(os.Environ(), actAsCommand+"=1"), env...)}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(c.data, "devstack.log")); err == nil {
				t.Logf("devstack.log:\n%s", log)
			}
		}
		if _, err := os.Stat(filepath.Join(c.data, ".refit-devstack")); err == nil {
			c.run(t, 0, "clean", "--data", c.data)
		}
		require.NoError(t, os.RemoveAll(parent))
	})
	return c
}

// run runs the command and returns what it printed.
func (c cli) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := exec.Command(c.program, args...)
	cmd.Env = c.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if code == 0 {
		require.NoError(t, err, out.String())
	}
	require.Equal(t, code, cmd.ProcessState.ExitCode(), out.String())
	return out.String()
}

func (c cli) stack(t *testing.T) layout.Stack {
	t.Helper()
	s, err := layout.Folder(c.data).ReadStack()
	require.NoError(t, err)
	return s
}

// kill kills processes as a power cut would, and returns when the command sees the given state.
func (c cli) kill(t *testing.T, state string, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	require.Eventually(t, func() bool {
		var s status
		return json.Unmarshal([]byte(c.run(t, 0, "status", "--data", c.data, "-o", "json")), &s) == nil && string(s.State) == state
	}, 30*time.Second, 50*time.Millisecond)
}

func TestStackKeepsItsDataOverKills(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()

	c.run(t, 0, "up", "--free-ports", "--data", c.data)
	require.Contains(t, c.run(t, 0, "up", "--data", c.data), "runs already")
	first := c.stack(t)
	info, err := os.Stat(filepath.Join(c.data, "stack.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	checkRoles(ctx, t, first)
	putRow(ctx, t, first)
	putObject(ctx, t, first)
	startWaiting(ctx, t, first)

	// The serving process dies, the postmaster stays: it is adopted.
	postmaster := postmasterPID(t, c.data)
	c.kill(t, "orphaned", first.PID)
	require.Contains(t, c.run(t, 0, "up", "--data", c.data), "adopted")
	second := c.stack(t)
	require.Equal(t, postmaster, postmasterPID(t, c.data))
	require.Equal(t, first.Postgres, second.Postgres, "ports and passwords stay")
	require.Equal(t, first.S3, second.S3)
	require.Equal(t, first.Temporal, second.Temporal)
	checkRow(ctx, t, second)
	checkObject(ctx, t, second)

	// The postmaster dies under the running stack: it is started again, and Temporal goes on.
	require.NoError(t, syscall.Kill(postmaster, syscall.SIGKILL))
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(ctx, second.Postgres.OwnerURL)
		if err != nil {
			return false
		}
		conn.Close(ctx)
		return postmasterPID(t, c.data) != postmaster
	}, time.Minute, 50*time.Millisecond)
	postmaster = postmasterPID(t, c.data)
	require.Eventually(t, func() bool {
		_, err := dial(t, second).DescribeWorkflowExecution(ctx, "waits/through", "")
		return err == nil
	}, time.Minute, 100*time.Millisecond)

	// Everything dies at once and leaves a stale postmaster.pid.
	c.kill(t, "stopped", second.PID, postmaster)
	require.FileExists(t, filepath.Join(c.data, "postgres", "postmaster.pid"))
	c.run(t, 0, "up", "--data", c.data)
	third := c.stack(t)
	checkRow(ctx, t, third)
	checkObject(ctx, t, third)
	finishWaiting(ctx, t, third)

	require.Contains(t, c.run(t, 0, "down", "--data", c.data), "it was ready")
	require.NoFileExists(t, filepath.Join(c.data, "stack.json"))
	require.NoFileExists(t, filepath.Join(c.data, "postgres", "postmaster.pid"))
	require.Contains(t, c.run(t, 0, "status", "--data", c.data), "stopped")
	c.run(t, 0, "clean", "--data", c.data)
	require.NoDirExists(t, c.data)
}

func postmasterPID(t *testing.T, data string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(data, "postgres", "postmaster.pid"))
	require.NoError(t, err) // there while a postmaster answers
	line, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}

func connect(ctx context.Context, t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// checkRoles shows what each role may do and, more to the point, what it may not.
func checkRoles(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	for role, url := range map[string]string{
		layout.OwnerRole: s.Postgres.OwnerURL, layout.AppRole: s.Postgres.AppURL, layout.RollbackRole: s.Postgres.RollbackURL,
	} {
		var user string
		require.NoError(t, connect(ctx, t, url).QueryRow(ctx, `SELECT current_user`).Scan(&user))
		require.Equal(t, role, user)
		_, err := pgx.Connect(ctx, strings.Replace(url, "/refit?", "/temporal?", 1))
		require.ErrorContains(t, err, "permission denied")
	}
	_, err := connect(ctx, t, s.Postgres.AppURL).Exec(ctx, `CREATE TABLE mine (n int)`)
	require.ErrorContains(t, err, "permission denied")
	_, err = pgx.Connect(ctx, strings.Replace(s.Postgres.OwnerURL, "refit_owner:", "refit_owner:x", 1))
	require.ErrorContains(t, err, "password authentication failed")
	owner := connect(ctx, t, s.Postgres.OwnerURL)
	_, err = owner.Exec(ctx, `CREATE DATABASE for_a_test`)
	require.NoError(t, err)
	var fsync string
	require.NoError(t, owner.QueryRow(ctx, `SHOW fsync`).Scan(&fsync))
	require.Equal(t, "on", fsync)
}

func putRow(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	_, err := connect(ctx, t, s.Postgres.OwnerURL).Exec(ctx, `CREATE TABLE kept AS SELECT 42 AS n`)
	require.NoError(t, err)
}

func checkRow(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	var n int
	require.NoError(t, connect(ctx, t, s.Postgres.OwnerURL).QueryRow(ctx, `SELECT n FROM kept`).Scan(&n))
	require.Equal(t, 42, n)
}

func s3(t *testing.T, s layout.Stack) *minio.Client {
	t.Helper()
	cl, err := minio.New(s.S3.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(s.S3.AccessKey, s.S3.SecretKey, "")})
	require.NoError(t, err)
	return cl
}

func putObject(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	cl := s3(t, s)
	for _, body := range []string{"older", "kept"} {
		_, err := cl.PutObject(ctx, s.S3.Bucket, "a/b", strings.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
		require.NoError(t, err)
	}
}

func checkObject(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	cl := s3(t, s)
	object, err := cl.GetObject(ctx, s.S3.Bucket, "a/b", minio.GetObjectOptions{})
	require.NoError(t, err)
	body, err := io.ReadAll(object)
	require.NoError(t, err)
	require.Equal(t, "kept", string(body))
	versions := 0
	for v := range cl.ListObjects(ctx, s.S3.Bucket, minio.ListObjectsOptions{WithVersions: true, Recursive: true}) {
		require.NoError(t, v.Err)
		versions++
	}
	require.Equal(t, 2, versions)
	_, _, _, _, err = cl.GetObjectLockConfig(ctx, s.S3.Bucket)
	require.NoError(t, err)
}

const queue = "devstack-test"

// waiting runs until it is told a word.
func waiting(ctx workflow.Context) (string, error) {
	var word string
	workflow.GetSignalChannel(ctx, "word").Receive(ctx, &word)
	var echoed string
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 10 * time.Second})
	err := workflow.ExecuteActivity(ctx, echo, word).Get(ctx, &echoed)
	return echoed, err
}

func echo(_ context.Context, word string) (string, error) { return word, nil }

func dial(t *testing.T, s layout.Stack) client.Client {
	t.Helper()
	cl, err := client.Dial(client.Options{HostPort: s.Temporal.Address, Namespace: s.Temporal.Namespace})
	require.NoError(t, err)
	t.Cleanup(cl.Close)
	return cl
}

func startWaiting(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	service := temporal.NewSearchAttributeKeyKeyword("RefitService")
	_, err := dial(t, s).ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "waits/through", TaskQueue: queue, TypedSearchAttributes: temporal.NewSearchAttributes(service.ValueSet("docs")),
	}, waiting)
	require.NoError(t, err)
}

// finishWaiting lets a worker finish the run that was started before the kills.
func finishWaiting(ctx context.Context, t *testing.T, s layout.Stack) {
	t.Helper()
	cl := dial(t, s)
	w := worker.New(cl, queue, worker.Options{})
	w.RegisterWorkflow(waiting)
	w.RegisterActivity(echo)
	require.NoError(t, w.Start())
	defer w.Stop()
	require.NoError(t, cl.SignalWorkflow(ctx, "waits/through", "", "word", "hello"))
	var got string
	require.NoError(t, cl.GetWorkflow(ctx, "waits/through", "").Get(ctx, &got))
	require.Equal(t, "hello", got)
	require.Eventually(t, func() bool {
		found, err := cl.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Query: "RefitService = 'docs' AND ExecutionStatus = 'Completed'",
		})
		return err == nil && found.Count == 1
	}, 30*time.Second, 100*time.Millisecond)
}

func TestUpNamesEveryBusyPortBeforeItStartsAnything(t *testing.T) {
	t.Parallel()
	var env []string
	busy := map[string]string{}
	for _, setting := range []string{"REFIT_POSTGRES_PORT", "REFIT_TEMPORAL_PORT", "REFIT_TEMPORAL_UI_PORT", "REFIT_S3_PORT"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		require.NoError(t, err)
		busy[setting] = port
		env = append(env, setting+"="+port)
	}
	c := newCLI(t, env...)
	out := c.run(t, 1, "up", "--data", c.data)
	for setting, port := range busy {
		require.Contains(t, out, "port "+port)
		require.Contains(t, out, setting)
	}
	require.NoDirExists(t, filepath.Join(c.data, "postgres"))
}

func TestRunGivesACommandAStackOfItsOwn(t *testing.T) {
	t.Parallel()
	c := newCLI(t, "REFIT_POSTGRES_FSYNC=off")
	out := c.run(t, 7, "run", "--data", c.data, "--", "sh", "-c", `cat "$REFIT_TEST_STACK"; exit 7`)
	require.Contains(t, out, "postgres://refit_owner:")
	require.NoDirExists(t, c.data)
}

func TestAKilledRunTakesItsStackAlong(t *testing.T) {
	t.Parallel()
	c := newCLI(t, "REFIT_POSTGRES_FSYNC=off")
	cmd := exec.Command(c.program, "run", "--data", c.data, "--", "sh", "-c", "echo up; exec cat")
	cmd.Env = c.env
	stdin, err := cmd.StdinPipe() // keeps cat waiting, and ends it with this test
	require.NoError(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = stdout.Read(make([]byte, 2))
	require.NoError(t, err)
	require.DirExists(t, c.data)
	require.NoError(t, cmd.Process.Kill())
	stdin.Close()
	cmd.Wait()
	require.Eventually(t, func() bool {
		_, err := os.Stat(c.data)
		return os.IsNotExist(err)
	}, time.Minute, 100*time.Millisecond)
}
