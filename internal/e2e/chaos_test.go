package e2e

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// kills is how often something is killed under one seed.
const kills = 16

// TestManyKills kills worker, gateways and trainer by a seeded schedule while a release is promoted under traffic and
// a model is trained, and holds what must be true whatever is killed.
func TestManyKills(t *testing.T) {
	t.Parallel()
	if os.Getenv("REFIT_CHAOS") == "" {
		t.Skip("REFIT_CHAOS=1 kills many times (make chaos)")
	}
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			manyKills(t, seed)
		})
	}
}

// seeds gives the one in REFIT_CHAOS_SEED, or three fresh ones.
func seeds(t *testing.T) []uint64 {
	if given := os.Getenv("REFIT_CHAOS_SEED"); given != "" {
		seed, err := strconv.ParseUint(given, 10, 64)
		require.NoError(t, err, "REFIT_CHAOS_SEED")
		return []uint64{seed}
	}
	var raw [12]byte
	_, _ = rand.Read(raw[:]) // it never fails
	var drawn []uint64
	for i := range 3 {
		drawn = append(drawn, uint64(binary.LittleEndian.Uint32(raw[4*i:])))
	}
	return drawn
}

func manyKills(t *testing.T, seed uint64) {
	program(t, "refit-runtime")
	s := newServed(t, onSharedStack(t), 2, step{3000, 100}, step{5000, 100}, step{8000, 100})
	watch := s.watchRoute()
	traffic := startTraffic(t, s.service, 4, s.addresses()...)
	var training started
	s.refit(&training, "train", s.service, "--stage", "base")
	run := s.promote()

	c := &chaos{served: s, traffic: traffic, random: mathrand.New(mathrand.NewPCG(seed, 3))}
	for range kills {
		c.strike()
	}
	promoted, err := ended[steps.PromotionResult](s.world, run)
	require.NoError(t, err)
	require.Equal(t, lifecycle.RolloutPromoted, promoted.Phase, promoted.Reason)
	trained, err := ended[steps.PretrainingResult](s.world, training)
	require.NoError(t, err)
	exchanges := traffic.stop()

	watch.check(t)
	s.checkRecord()
	s.checkExposure(4)
	require.Equal(t, s.candidate, s.route().Stable)
	require.Len(t, promoted.Steps, 3)
	for _, e := range failed(exchanges) {
		require.True(t, c.dead(e), "a request failed at a gateway that lived: %+v", e)
	}
	s.checkCaptured(traffic, exchanges, c.mayLose)
	var again started
	s.refit(&again, "train", s.service, "--stage", "base")
	calm, err := ended[steps.PretrainingResult](s.world, again)
	require.NoError(t, err)
	require.Equal(t, calm.Model, trained.Model, "the killed training ended with another model")
}

// chaos kills and starts again.
type chaos struct {
	*served
	traffic      *traffic
	random       *mathrand.Rand
	trainerKills int // at most two: a job that fails three times is given up
	deaths       []death
}

// death is the time for which a gateway was dead.
type death struct {
	gateway    string // address
	from, till time.Time
}

// strike waits for a while of traffic, kills somebody and, after another while, starts it again.
func (c *chaos) strike() {
	c.t.Helper()
	c.traffic.awaitMore(c.t, 50+c.random.Int64N(500))
	pause := c.random.Int64N(400)
	if pids := c.trainers(); len(pids) > 0 && c.trainerKills < 2 && c.random.IntN(2) == 0 {
		c.trainerKills++
		c.t.Logf("kill the trainer")
		_ = syscall.Kill(pids[0], syscall.SIGKILL) // it may have ended just now
		return
	}
	switch victim := c.random.IntN(6); {
	case victim < 3:
		c.t.Logf("kill the worker, and start it again after %d answers", pause)
		c.worker.kill()
		c.traffic.awaitMore(c.t, pause)
		c.worker.start()
	case victim < 5:
		c.killGateway(c.gateways[c.random.IntN(len(c.gateways))], pause)
	default:
		c.t.Logf("kill the worker and a gateway")
		c.worker.kill()
		c.killGateway(c.gateways[c.random.IntN(len(c.gateways))], pause)
		c.worker.start()
	}
}

func (c *chaos) killGateway(g *gateway, pause int64) {
	c.t.Helper()
	c.t.Logf("kill %s, and start it again after %d answers", g.name, pause)
	from := time.Now()
	g.kill()
	c.traffic.awaitMore(c.t, pause)
	g.start()
	c.awaitOK("http://" + g.address + "/readyz")
	c.deaths = append(c.deaths, death{g.address, from, time.Now()})
}

// dead says whether the exchange's gateway was dead while it lasted.
func (c *chaos) dead(e exchange) bool {
	for _, d := range c.deaths {
		if d.gateway == e.gateway && !e.at.Before(d.from) && !e.began.After(d.till) {
			return true
		}
	}
	return false
}

// mayLose says whether an answer may be missing from the store: its gateway was killed before it had written it.
func (c *chaos) mayLose(e exchange) bool {
	for _, d := range c.deaths {
		if d.gateway == e.gateway && e.at.After(d.from.Add(-2*time.Second)) && e.at.Before(d.till) {
			return true
		}
	}
	return false
}
