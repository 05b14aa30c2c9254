package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

func TestStableIsServedWhileEverythingElseIsAway(t *testing.T) {
	t.Parallel()
	program(t, "refit-runtime")
	own := newOwnStack(t)
	s := newServed(t, own.ground(t), 3, step{4000, 500}, step{7000, 40})
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 4, s.addresses()[:2]...)
	run := s.promote()
	s.awaitStep(0, 4000)
	s.awaitCanary(10)
	var training started
	s.refit(&training, "train", s.service, "--stage", "base")
	await(t, "a trainer", func() (bool, any) { return len(s.trainers()) == 1, nil })
	own.kill()
	killed := time.Now()

	// A gateway that starts now serves what it served last.
	s.gateways[2].kill()
	s.gateways[2].start()
	s.awaitServing()
	await(t, "the lease to be over", func() (bool, any) {
		since := time.Since(killed)
		return since > lifecycle.LeaseTime+late, since
	})
	s.awaitStableChats(200)
	require.LessOrEqual(t, s.lastCanary().Sub(killed), lifecycle.LeaseTime+late, "the canary was served after the lease")

	own.up()
	result, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, result.Phase, result.Reason)
	trained, err := ended[steps.PretrainingResult](s.world, training)
	require.NoError(t, err)
	require.True(t, trained.Release.Valid())
	exchanges := traffic.stop()
	require.Empty(t, failed(exchanges), "users noticed")
	require.Len(t, entriesOf(s.ledger(), lifecycle.ShareChanged), 2, "a step began twice")
	require.Len(t, entriesOf(s.ledger(), lifecycle.StepJudged), 2)
	require.NotEmpty(t, entriesOf(s.ledger(), lifecycle.LeaseLapsed), "the lapse is not in the ledger")
	watch.check(t)
	s.checkRecord()
	s.checkExposure(4)
	s.checkCaptured(traffic, exchanges, nil)
}

// ownStack is a stack of one test's own, which may be killed.
type ownStack struct {
	t             *testing.T
	program, data string
}

// newOwnStack starts a stack on free ports, in a folder that PostgreSQL's user can reach.
func newOwnStack(t *testing.T) *ownStack {
	t.Helper()
	if os.Getenv("REFIT_TEST_STACK") == "" {
		t.Skip("needs PostgreSQL's programs, as every stack does: REFIT_TEST_STACK names none")
	}
	parent, err := os.MkdirTemp("/var/tmp", "refit-e2e-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(parent, 0o711))
	o := &ownStack{t: t, program: program(t, "devstack"), data: filepath.Join(parent, "data")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("last lines of the test's own stack:\n%s", tail(filepath.Join(o.data, "devstack.log"), 40))
		}
		o.command("clean")
		require.NoError(t, os.RemoveAll(parent))
	})
	o.up()
	return o
}

func (o *ownStack) command(args ...string) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// As people run it: a PostgreSQL that does not wait for the disk loses commits when it is killed.
	stdout, stderr, code, err := run(ctx, clean(os.Environ()), append([]string{o.program, "--data", o.data}, args...)...)
	require.NoError(o.t, err)
	require.Zero(o.t, code, "devstack %s\n%s\n%s", strings.Join(args, " "), stdout, stderr)
}

// up starts it, on the ports that it had before if it ran before.
func (o *ownStack) up() { o.t.Helper(); o.command("up", "--free-ports") }

// kill kills PostgreSQL, Temporal and S3 as a power cut would.
func (o *ownStack) kill() {
	o.t.Helper()
	o.killServer()
	o.killPostgres()
}

// killServer kills the process that runs Temporal and S3. PostgreSQL goes on.
func (o *ownStack) killServer() { o.t.Helper(); o.killOne(o.stack().PID) }

// killPostgres kills the postmaster. The stack's server starts it again where it lives.
func (o *ownStack) killPostgres() { o.t.Helper(); o.killOne(o.postmaster()) }

func (o *ownStack) killOne(pid int) {
	o.t.Helper()
	require.NoError(o.t, syscall.Kill(pid, syscall.SIGKILL))
	await(o.t, "the process to be gone", func() (bool, any) { return gone(pid), pid })
}

// postmaster reads PostgreSQL's process ID.
func (o *ownStack) postmaster() int {
	o.t.Helper()
	raw, err := os.ReadFile(filepath.Join(o.data, "postgres", "postmaster.pid"))
	if os.IsNotExist(err) {
		found, _ := filepath.Glob(filepath.Join(o.data, "postgres", "*", "postmaster.pid"))
		require.Len(o.t, found, 1)
		raw, err = os.ReadFile(found[0])
	}
	require.NoError(o.t, err)
	line, _, _ := strings.Cut(string(raw), "\n")
	postmaster, err := strconv.Atoi(line)
	require.NoError(o.t, err)
	return postmaster
}

func (o *ownStack) stack() stack {
	o.t.Helper()
	raw, err := os.ReadFile(filepath.Join(o.data, "stack.json"))
	require.NoError(o.t, err)
	var s stack
	require.NoError(o.t, json.Unmarshal(raw, &s))
	return s
}

// ground takes the stack's own database, migrated by command, its namespace and its bucket.
func (o *ownStack) ground(t *testing.T) ground {
	t.Helper()
	s := o.stack()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	env := append(clean(os.Environ()), "REFIT_REGISTRY_OWNER_URL="+s.Postgres.OwnerURL)
	stdout, stderr, code, err := run(ctx, env, program(t, "refit"), "migrate")
	require.NoError(t, err)
	require.Zero(t, code, "%s\n%s", stdout, stderr)
	return ground{
		stack: s, appURL: s.Postgres.AppURL, ownerURL: s.Postgres.OwnerURL, rollbackURL: s.Postgres.RollbackURL,
		namespace: s.Temporal.Namespace, bucket: s.S3.Bucket,
	}
}
