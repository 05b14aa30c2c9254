package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// TestKillsAtEveryBoundary kills worker, gateways, PostgreSQL and Temporal at every boundary of rollouts that end well and
// of some that are taken back, and at times that the seed draws. Which boundary meets which of the four is a Latin square:
// four rounds are all pairs. A round kills 12 times, the rounds of `make chaos` 50 times.
func TestKillsAtEveryBoundary(t *testing.T) {
	t.Parallel()
	schedules := [][]round{{{first: 0, random: 2}}}
	if os.Getenv("REFIT_CHAOS") != "" {
		schedules = [][]round{{{0, 2}, {1, 3}}, {{2, 2}, {3, 3}}}
	}
	seed := seeds(t)[0]
	for i, rounds := range schedules {
		t.Run(fmt.Sprintf("seed %d part %d", seed, i+1), func(t *testing.T) {
			t.Parallel()
			k := newKilling(t, seed, uint64(i))
			kills := 0
			for _, r := range rounds {
				k.play(r)
				kills += boundaries + r.random
			}
			require.Equal(t, kills, k.struck)
			k.checkAll()
		})
	}
}

// boundaries is at how many of them one round kills.
const boundaries = 10

// round is a rollout that ends well and one that is taken back.
type round struct {
	first  int // which of the four is killed at the first boundary; the others follow in turn
	random int // further kills, at times that are drawn; 2 or more
}

// The four, before the seed mixes them.
var mortals = []string{"the worker", "a gateway", "PostgreSQL", "Temporal"}

// killing is a world in which every process can be killed at a boundary: gates stop what is about to be written, and
// wires what is about to be heard.
type killing struct {
	*chaos
	own                  *ownStack
	toWorker, toGateways wires
	watch                *routeWatch
	order                []string
	next                 int // in order: who dies at the next boundary
	struck               int
}

type wires []*wire

func (w wires) set(fault string) {
	for _, one := range w {
		one.set(fault)
	}
}

func newKilling(t *testing.T, seed, part uint64) *killing {
	t.Helper()
	own := newOwnStack(t)
	g := own.ground(t)
	s := &served{world: newWorld(t, g), models: newModels(t)}
	k := &killing{own: own, chaos: &chaos{served: s, random: mathrand.New(mathrand.NewPCG(seed, 17+part))}}
	k.order = slices.Clone(mortals)
	mixed := mathrand.New(mathrand.NewPCG(seed, 16)) // the same in all parts
	mixed.Shuffle(len(k.order), func(i, j int) { k.order[i], k.order[j] = k.order[j], k.order[i] })
	s.installGates()
	wired, address := newWire(t, s.appURL)
	k.toWorker = wires{wired}
	s.worker.env = append(slices.Clone(s.env), "REFIT_REGISTRY_URL="+address)
	s.bringUp(0, step{3000, 40}, step{6000, 40})
	for range 2 {
		wired, address := newWire(t, s.appURL)
		k.toGateways = append(k.toGateways, wired)
		s.addGateway("REFIT_REGISTRY_URL=" + address)
	}
	s.awaitServing()
	k.watch = s.watchRoute()
	k.traffic = startTraffic(t, s.service, 4, s.addresses()...)
	return k
}

func (k *killing) play(r round) {
	k.t.Helper()
	k.next = r.first
	k.promoteOver(fmt.Sprint("good ", r.first), r.random/2)
	k.takeBackOver(fmt.Sprint("bad ", r.first), r.random-r.random/2)
}

// promoteOver promotes a release over kills at eight boundaries.
func (k *killing) promoteOver(name string, random int) {
	k.t.Helper()
	k.nextCandidate(name)
	k.shut(lifecycle.RolloutStarted, lifecycle.ShareChanged, lifecycle.StepJudged, lifecycle.Promoted)
	run := k.promote()
	k.unheard(run, "the rollout is opened", lifecycle.RolloutStarted, steps.StartRollout.Name)
	k.inFlight("the first share is being written", lifecycle.ShareChanged)
	k.unseen("the first share is written, and no gateway has it", lifecycle.ShareChanged)
	k.shut(lifecycle.ShareChanged)
	k.atRandom(random)
	k.inFlight("the first step's verdict is being written", lifecycle.StepJudged)
	k.unheard(run, "the first step's verdict is written, and the share is as it was", lifecycle.StepJudged, steps.RecordStep.Name)
	k.applied(run, "every gateway has the second share, and the step does not wait yet", lifecycle.ShareChanged, steps.SetShare.Name)
	k.inFlight("the release is being made stable", lifecycle.Promoted)
	k.unseen("the release is stable, and no gateway knows", lifecycle.Promoted)
	k.checkEnd(run, lifecycle.RolloutPromoted)
	k.stable, k.stableName = k.candidate, k.name
}

// takeBackOver lets a release fail over kills at two boundaries of the way back.
func (k *killing) takeBackOver(name string, random int) {
	k.t.Helper()
	k.nextCandidate(name)
	k.models.breakDown(k.name)
	k.shut(lifecycle.RolledBack)
	run := k.promote()
	k.awaitStep(0, 3000)
	k.atRandom(random)
	k.inFlight("the way back is being written", lifecycle.RolledBack)
	k.unseen("the way back is written, and no gateway has it", lifecycle.RolledBack)
	k.checkEnd(run, lifecycle.RolloutRolledBack)
	quiet := k.models.count(k.name)
	k.awaitStableChats(50)
	require.Equal(k.t, quiet, k.models.count(k.name), "the canary serves on after every gateway applied the rollback")
}

// inFlight kills while a change is under way: nothing of it is there. Its gate stays shut.
func (k *killing) inFlight(where string, kind lifecycle.LedgerKind) {
	k.t.Helper()
	before := len(entriesOf(k.ledger(), kind))
	k.awaitAt(kind)
	k.strikeNext(where)
	require.Len(k.t, entriesOf(k.ledger(), kind), before, "%s, but not in flight any more", where)
}

// unheard kills when a change is made and the worker has not heard so.
func (k *killing) unheard(run started, where string, kind lifecycle.LedgerKind, step string) {
	k.t.Helper()
	k.awaitAt(kind)
	k.toWorker.set(deaf)
	k.let(kind)
	k.requirePending(run, step)
	k.strikeNext(where)
	k.toWorker.set(whole)
}

// unseen kills when a change is made and no gateway has seen it.
func (k *killing) unseen(where string, kind lifecycle.LedgerKind) {
	k.t.Helper()
	k.awaitAt(kind)
	k.toGateways.set(cutOff)
	k.let(kind)
	generation := k.route().Generation
	for _, report := range query(k.world, pgx.RowTo[int64], `SELECT generation FROM gateways WHERE service = $1`, k.service) {
		require.Less(k.t, report, generation, "%s, but a gateway has it", where)
	}
	k.strikeNext(where)
	k.toGateways.set(whole)
}

// applied kills when every gateway has a change and the worker has not heard that it is made.
func (k *killing) applied(run started, where string, kind lifecycle.LedgerKind, step string) {
	k.t.Helper()
	k.awaitAt(kind)
	k.toWorker.set(deaf)
	k.let(kind)
	k.awaitApplied(k.route())
	k.requirePending(run, step)
	k.strikeNext(where)
	k.toWorker.set(whole)
}

// let lets the change that stands before a gate pass, and waits until it is made.
func (k *killing) let(kind lifecycle.LedgerKind) {
	k.t.Helper()
	before := len(entriesOf(k.ledger(), kind))
	k.open(kind)
	await(k.t, string(kind), func() (bool, any) {
		seen := len(entriesOf(k.ledger(), kind))
		return seen == before+1, seen
	})
}

// requirePending says that the workflow waits for a step.
func (k *killing) requirePending(run started, step string) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	described, err := k.temporal.DescribeWorkflowExecution(ctx, run.WorkflowID, run.RunID)
	require.NoError(k.t, err)
	var pending []string
	for _, a := range described.PendingActivities {
		pending = append(pending, a.ActivityType.GetName())
	}
	require.Contains(k.t, pending, step)
}

// atRandom kills so many times, after a while of traffic.
func (k *killing) atRandom(times int) {
	k.t.Helper()
	for range times {
		k.traffic.awaitMore(k.t, k.random.Int64N(200))
		k.strike(k.order[k.random.IntN(len(k.order))], "at a time that was drawn")
	}
}

func (k *killing) strikeNext(where string) {
	k.t.Helper()
	k.strike(k.order[k.next%len(k.order)], where)
	k.next++
}

// strike kills one of the four and, after a while of traffic, starts it again.
func (k *killing) strike(who, where string) {
	k.t.Helper()
	k.struck++
	pause := k.random.Int64N(200)
	k.t.Logf("kill %d: %s; %s", k.struck, who, where)
	switch who {
	case mortals[0]:
		k.worker.kill()
		k.traffic.awaitMore(k.t, pause)
		k.worker.start()
	case mortals[1]:
		k.killGateway(k.gateways[k.random.IntN(len(k.gateways))], pause)
	case mortals[2]:
		k.own.killPostgres()
		await(k.t, "PostgreSQL to be back", func() (bool, any) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			conn, err := pgx.Connect(ctx, k.ownerURL)
			if err == nil {
				err = conn.Close(ctx)
			}
			return err == nil, err
		})
	case mortals[3]:
		k.own.killServer()
		k.traffic.awaitMore(k.t, pause)
		k.own.up()
	}
}

// checkEnd waits for a rollout's end and reads from the database what it did: every step once, in order, nothing after
// its end; and holds what the model server counted against the shares.
func (k *killing) checkEnd(run started, phase lifecycle.RolloutPhase) {
	k.t.Helper()
	result, err := ended[steps.PromotionResult](k.world, run)
	require.NoError(k.t, err)
	require.Equal(k.t, phase, result.Phase, result.Reason)
	phases := query(k.world, pgx.RowTo[lifecycle.RolloutPhase], `SELECT phase FROM rollouts WHERE id = $1`, run.RunID)
	require.Equal(k.t, []lifecycle.RolloutPhase{phase}, phases)
	k.awaitApplied(k.route())

	want := []string{"rollout-started", "share-changed 0", "step-judged 0", "rolled-back"}
	if phase == lifecycle.RolloutPromoted {
		want = []string{"rollout-started", "share-changed 0", "step-judged 0", "share-changed 1", "step-judged 1", "promoted"}
		require.Equal(k.t, k.candidate, k.route().Stable)
	} else {
		require.Equal(k.t, k.stable, k.route().Stable)
	}
	did, began := k.doneBy(run)
	require.Equal(k.t, want, did, "a step was skipped or done twice")
	require.Empty(k.t, k.route().Canary)
	k.checkExposureFrom(began, 4)
}

// doneBy lists what the ledger says of the candidate's rollout, and when it began.
func (k *killing) doneBy(run started) (did []string, began time.Time) {
	k.t.Helper()
	kinds := []lifecycle.LedgerKind{
		lifecycle.RolloutStarted, lifecycle.ShareChanged, lifecycle.StepJudged, lifecycle.Promoted, lifecycle.RolledBack,
	}
	for _, e := range entriesOf(k.ledger(), kinds...) {
		if e.Subject != string(k.candidate) {
			continue
		}
		var evidence struct {
			Rollout string `json:"rollout"`
			Step    *int   `json:"step"`
			Index   *int   `json:"index"` // of a step that was judged
		}
		require.NoError(k.t, json.Unmarshal(e.Evidence, &evidence))
		line := string(e.Kind)
		switch {
		case e.Kind == lifecycle.RolloutStarted:
			require.Equal(k.t, run.RunID, evidence.Rollout)
			began = e.At
		case evidence.Step != nil:
			line += fmt.Sprint(" ", *evidence.Step)
		case evidence.Index != nil:
			line += fmt.Sprint(" ", *evidence.Index)
		}
		did = append(did, line)
	}
	return did, began
}

// checkAll holds what all rounds left against what is true whatever is killed.
func (k *killing) checkAll() {
	k.t.Helper()
	exchanges := k.traffic.stop()
	k.watch.check(k.t)
	k.checkRecord()
	for _, e := range failed(exchanges) {
		require.True(k.t, k.dead(e), "a request failed at a gateway that lived: %+v", e)
	}
	k.checkCaptured(k.traffic, exchanges, k.mayLose)
}
