package activities

import (
	"context"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/rollout"
	"github.com/refitml/refit/internal/serving"
)

const captureAllSteps = capture.AllSteps

func captureMetrics() []string { return capture.Metrics() }

// exposed holds the exposure bound against what the gateways report and what the model servers counted. It is not
// safe for concurrent use.
//
// The bound: over every window of the requests of all gateways the canary's are at most p of them, and B. Windows
// are looked at between reports, each of which counts both at one moment of its gateway. The reports of several are
// not of one moment, and what was earned may be reported to the pool a little later: pooled allows for that. A gateway
// with credit of its own is held to the bound alone. The cross-check: the model servers
// served no more for the canary than the gateways say they sent, and what was in flight. A reading of
// the servers is compared when every gateway has reported twice since: then a report holds all that the reading
// holds.
type exposed struct {
	share  int64 // basis points
	policy lifecycle.Exposure
	excess float64 // largest ever seen
	pooled pooled

	gateways map[gatewayRun]*gatewaySeen

	told        bool           // the servers can tell
	based       bool           // first and last are of the gateways that are known now
	first, last int64          // of the servers' counter
	before      int64          // served before first
	reading     *serverReading // that waits for reports
}

// gatewayRun is one process of a gateway: its counts begin at 0.
type gatewayRun struct {
	name    string
	started int64
}

type gatewaySeen struct {
	firstCanary int64
	last        registry.GatewayReport
	reports     int     // distinct ones
	running     float64 // largest excess of a window that ends now
	most        int64   // requests between two reports
}

// pooled is the window over all gateways that share one pool of credit.
type pooled struct {
	running float64 // largest excess of a window that ends now
	gone    float64 // that gateways which are gone may have earned after their last report
	sharing int     // gateways at most that were seen at a time
}

type serverReading struct {
	served  int64
	reports map[gatewayRun]int
}

func newExposed(share lifecycle.BasisPoints, policy lifecycle.Exposure, before int64) *exposed {
	return &exposed{share: int64(share), policy: policy, before: before, gateways: map[gatewayRun]*gatewaySeen{}}
}

// earned is what so many requests add to the credit.
func (e *exposed) earned(requests int64) float64 {
	return float64(requests*e.share) / float64(lifecycle.Whole)
}

// overrun is by how many requests the bound was broken; 0 or less: it holds.
func (e *exposed) overrun() float64 { return e.excess }

// report takes the newest reports of all gateways.
func (e *exposed) report(reports []registry.GatewayReport) {
	listed := map[gatewayRun]bool{}
	for _, r := range reports {
		run := gatewayRun{r.Gateway, r.Started.UnixMicro()}
		listed[run] = true
		seen, known := e.gateways[run]
		if !known {
			// It may have earned for the others what is not counted here: the window begins anew.
			e.pooled.running = 0
			e.gateways[run] = &gatewaySeen{firstCanary: r.CanaryRequests, last: r, reports: 1}
			e.begin() // what it sent before is not known
			continue
		}
		if r.Reported.Equal(seen.last.Reported) {
			continue
		}
		canary, requests := r.CanaryRequests-seen.last.CanaryRequests, r.Requests-seen.last.Requests
		step := float64(canary) - e.earned(requests)
		if r.Pooled {
			e.pooled.running = max(0, e.pooled.running) + step
		} else {
			seen.running = max(0, seen.running) + step
			e.excess = max(e.excess, seen.running-rollout.Bound(e.policy, 1))
		}
		seen.most = max(seen.most, requests)
		seen.last = r
		seen.reports++
	}
	for run, seen := range e.gateways {
		if !listed[run] { // it went without a last report
			e.pooled.gone += e.earned(seen.most)
			delete(e.gateways, run)
			e.begin()
		}
	}
	e.excess = max(e.excess, e.pooled.running-e.allowed())
}

// allowed is what a window of the gateways that share a pool may have over p of its requests: B, what was earned before
// it and reported within it, and, where there are several gateways, what was earned between the moments of their
// reports at both ends.
func (e *exposed) allowed() float64 {
	moments, sharing := int64(1), 0
	sum := int64(0)
	for _, seen := range e.gateways {
		if seen.last.Pooled {
			sharing++
			sum += seen.most
		}
	}
	if sharing > 1 {
		moments = 3
	}
	e.pooled.sharing = max(e.pooled.sharing, sharing)
	return rollout.Bound(e.policy, e.pooled.sharing) + e.earned(moments*sum) + e.pooled.gone
}

// begin starts the cross-check anew, because gateways or servers are not those that it began with. The servers
// are read next, after the reports: what is counted from here on is then in later reports, or was in flight.
func (e *exposed) begin() {
	e.before += e.last - e.first
	e.first, e.last = 0, 0
	e.based, e.reading = false, nil
	for _, seen := range e.gateways {
		seen.firstCanary = seen.last.CanaryRequests
	}
}

// read takes the servers' counter of requests for the canary. slack is what may be in flight.
func (e *exposed) read(served, slack int64) {
	if !e.based || served < e.last { // the first reading, or a server that was started again
		e.begin()
		e.told, e.based = true, true
		e.first, e.last = served, served
		return
	}
	e.last = served
	if e.reading == nil {
		e.reading = &serverReading{served: served, reports: map[gatewayRun]int{}}
		for run, seen := range e.gateways {
			e.reading.reports[run] = seen.reports
		}
		return
	}
	sent := int64(0)
	for run, at := range e.reading.reports {
		seen := e.gateways[run]
		if seen == nil || seen.reports < at+2 {
			return
		}
		sent += seen.last.CanaryRequests - seen.firstCanary
	}
	if len(e.reading.reports) > 0 {
		e.excess = max(e.excess, float64(e.reading.served-e.first-sent-slack))
	}
	e.reading = nil
}

// servedSoFar gives what the servers counted for the canary since the step's first hold; false: they cannot
// tell.
func (e *exposed) servedSoFar() (int64, bool) {
	return e.before + e.last - e.first, e.told
}

// count holds what the gateways say that they served against what the model servers say. It says whether all that can
// be asked was.
func (h *hold) count(ctx context.Context, reports []registry.GatewayReport) (counted bool) {
	h.exposed.report(reports)
	endpoints, err := h.Registry.Endpoints(ctx, h.in.Service)
	h.complain(ctx, "the endpoints cannot be read", err)
	if err != nil {
		return false
	}
	route, err := h.Registry.Route(ctx, h.in.Service)
	h.complain(ctx, "the route cannot be read", err)
	if err != nil {
		return false
	}
	own, name := ownServers(endpoints, h.in.Release, route.Stable)
	if name == "" {
		return true // the canary has stable's weights, and with them its servers
	}
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	served, err := serving.Served(ctx, h.Servers, own)
	h.complain(ctx, "what the model servers served cannot be read; the step does not end well without it", err)
	if err != nil {
		return h.static(ctx)
	}
	n, ok := served[name]
	if !ok {
		return true // a server of another kind, which counts otherwise
	}
	slack := int64(0)
	for _, e := range own {
		slack += int64(e.Capacity)
	}
	h.exposed.read(n, slack*int64(max(1, len(reports))))
	return true
}

// static says whether the service's model servers are somebody else's, who need not count.
func (h *hold) static(ctx context.Context) bool {
	service, err := h.Registry.Service(ctx, h.in.Service)
	return err == nil && service.Serving.Engine == "static"
}

// ownServers gives the servers of a release's weights and the name that it is asked by; none where stable is asked
// by it too.
func ownServers(endpoints []lifecycle.Endpoint, release, stable lifecycle.Digest) (own []lifecycle.Endpoint, name string) {
	for _, e := range endpoints {
		if e.Release == release {
			own, name = append(own, e), e.Model
		}
	}
	for _, e := range endpoints {
		if e.Release == stable && e.Model == name {
			return nil, ""
		}
	}
	return own, name
}
