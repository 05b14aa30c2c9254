package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// run is one run under way.
type run struct {
	settings  Settings
	place     place
	client    control.Client
	service   lifecycle.Service // as it is applied
	state     state
	view      view
	http      *http.Client // of the users and the meter
	questions []Question
	second    secondPromotion
}

// stage is one part of a run. Name is its key among the timings.
type stage struct {
	name string
	what string // for people
	do   func(*run, context.Context) error
}

// stages in their order. A stage finds what the ones before it left in the state.
func stages() []stage {
	return []stage{
		{"apply", "apply the service", (*run).apply},
		{"base", "pre-train the base on the old domain", (*run).trainBase},
		{"index", "build the retrieval index and measure it", (*run).buildIndex},
		{"first_stable", "give the service its first stable release", (*run).promoteBase},
		{"refused", "learn the fresh domain without replay: the gate refuses what forgot the rest", (*run).refuseForgetful},
		{"candidate", "continue pre-training on the fresh domain, with replay of the old", (*run).trainCandidate},
		{"gate", "evaluate the candidate next to what serves", (*run).evaluate},
		{"rollout", "promote the candidate through canary steps under traffic, and start a second promotion beside it", (*run).promoteCandidate},
		{"rolled_back", "promote a change of settings that passes the gate and fails users", (*run).rollBackMistake},
		{"feedback", "count the feedback and let it become a dataset", (*run).tune},
	}
}

// Run drives a model once around its life and gives what was measured. A run that fails leaves everything as it is;
// the next one goes on at the stage that failed.
func Run(ctx context.Context, settings Settings) (Summary, error) {
	settings, err := settings.withDefaults()
	if err != nil {
		return Summary{}, err
	}
	r := &run{
		settings: settings, place: place{settings: settings}, view: view{out: settings.Out, wide: settings.Wide},
		http: newHTTP(),
	}
	began := time.Now()
	all := stages()
	if err := r.open(ctx, len(all)+1); err != nil {
		return r.state.Summary, err
	}
	for i, s := range all {
		if err := r.through(ctx, s, i+2, len(all)+1); err != nil {
			return r.state.Summary, r.failed(s, err)
		}
	}
	return r.close(time.Since(began))
}

// open starts what must run, and finds out whether the last run is to be gone on with.
func (r *run) open(ctx context.Context, of int) error {
	began := time.Now()
	r.view.heading(1, of, "start the one-machine stack and `refit up`")
	err := r.place.open(ctx)
	if err == nil {
		err = r.place.refitUp(ctx)
	}
	if err == nil {
		r.client, err = r.place.client()
	}
	if err != nil {
		return lifecycle.Wrap(err, "start")
	}
	if r.state, err = readState(r.stateFile()); err != nil {
		return err
	}
	before, err := control.Call(ctx, r.client, control.Services, struct{}{})
	if err != nil {
		return err
	}
	var taken []string
	for _, service := range before {
		taken = append(taken, service.Service)
	}
	if err := r.begin(taken); err != nil {
		return err
	}
	r.state.timed("stack", time.Since(began))
	r.view.say("data in %s; log of `refit up`: %s", r.place.data, r.place.log())
	r.view.say("done in %s", seconds(time.Since(began)))
	return r.state.write(r.stateFile())
}

func (r *run) stateFile() string { return r.place.path("demo", "state.json") }

// begin goes on with a run that is not through, else starts one with a service of its own, whose name is not taken.
func (r *run) begin(taken []string) error {
	service, err := configs.ReadServiceFile(r.settings.Declaration)
	if err != nil {
		return err
	}
	if r.settings.Edit != nil {
		r.settings.Edit(&service)
	}
	useText(&service, r.settings.Text)
	if r.state.Service != "" && r.state.EndedAt.IsZero() && r.state.Text == r.settings.Text {
		r.view.say("the last run is not through: this one goes on where it stopped (remove %s to start anew)", r.stateFile())
	} else {
		r.state = state{Service: service.Name, Before: len(taken), Text: r.settings.Text}
		for n := 2; slices.Contains(taken, r.state.Service); n++ {
			r.state.Service = fmt.Sprintf("%s-%d", service.Name, n)
		}
		// What an earlier run measured must not pass for this one's.
		if err := os.Remove(r.settings.SummaryFile); err != nil && !errors.Is(err, os.ErrNotExist) {
			return lifecycle.Wrap(err, "remove the last run's summary")
		}
	}
	service.Name = r.state.Service
	r.service = service
	return service.Check()
}

// useText makes the user's own text the fresh domain.
func useText(service *lifecycle.Service, folder string) {
	if folder == "" {
		return
	}
	fresh := service.Corpora["fresh"]
	fresh.Sources = []lifecycle.Source{{Kind: "folder", Path: folder}}
	fresh.MinDocuments = 50
	fresh.HeldOut = 0.2 // a folder holds less than the documentation of several modules
	service.Corpora["fresh"] = fresh
}

func (r *run) through(ctx context.Context, s stage, number, of int) error {
	r.view.heading(number, of, s.what)
	if slices.Contains(r.state.Done, s.name) {
		r.view.say("done before, in %s", seconds(time.Duration(r.state.Summary.Timings[s.name]*float64(time.Second))))
		return nil
	}
	began := time.Now()
	err := s.do(r, ctx)
	r.view.end()
	r.state.timed(s.name, time.Since(began))
	if err == nil {
		r.state.Done = append(r.state.Done, s.name)
		r.view.say("done in %s", seconds(time.Since(began)))
	}
	return errors.Join(err, r.state.write(r.stateFile()))
}

// failed says where the run stopped and where to look.
func (r *run) failed(s stage, err error) error {
	r.view.say("stopped in stage %q. Nothing was cleaned up: look at %s and %s; the next run goes on here.",
		s.name, r.place.log(), control.WorkflowURL(r.place.ui, r.place.namespace, "", ""))
	return lifecycle.Wrap(err, "stage %s", s.name)
}

// close writes the summary.
func (r *run) close(took time.Duration) (Summary, error) {
	out := &r.state.Summary
	out.Addresses, out.Screens = r.addresses(), r.state.screens()
	total := 0.0
	for name, each := range out.Timings {
		if name != "total" {
			total += each
		}
	}
	out.Timings["total"] = total
	if err := out.Write(r.settings.SummaryFile); err != nil {
		return *out, err
	}
	r.state.EndedAt = time.Now().UTC()
	if err := r.state.write(r.stateFile()); err != nil {
		return *out, err
	}
	r.view.end()
	fmt.Fprintf(r.settings.Out, "\n%s", r.text(took))
	return *out, nil
}

// followEvery is how often a workflow is asked how it stands.
const followEvery = 500 * time.Millisecond

// loop starts a loop and follows it to its end; result is what it gave. One that runs already, because an earlier
// run of the demo started it, is followed instead.
func (r *run) loop(ctx context.Context, workflow string, input, result any) error {
	raw, err := json.Marshal(input)
	if err != nil {
		return err
	}
	started, err := control.Call(ctx, r.client, control.Start, control.StartInput{Workflow: workflow, Input: raw})
	if started, err = joined(started, err); err != nil {
		return err
	}
	return r.follow(ctx, started, result)
}

// joined makes the busy one's the run to follow.
func joined(started control.Started, err error) (control.Started, error) {
	var typed *lifecycle.Error
	if errors.As(err, &typed) && typed.Kind == lifecycle.Busy && typed.Fields["workflow_id"] != "" {
		return control.Started{WorkflowID: typed.Fields["workflow_id"], RunID: typed.Fields["run_id"]}, nil
	}
	return started, err
}

// follow shows a workflow until it ends and reads its result. An API that is away for a moment is waited for.
func (r *run) follow(ctx context.Context, started control.Started, result any) error {
	for {
		now, err := control.Call(ctx, r.client, control.Watch, control.WatchInput{WorkflowID: started.WorkflowID, RunID: started.RunID})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case lifecycle.Is(err, lifecycle.Unavailable):
			r.view.say("waiting for the control API: %v", err)
		case err != nil:
			return err
		case now.Error != nil:
			return now.Error
		case now.Status == "Completed":
			r.view.end()
			return lifecycle.Wrap(json.Unmarshal(now.Result, result), "read the result of %s", started.WorkflowID)
		case now.Status != "Running":
			return lifecycle.Errorf(lifecycle.Conflict, "workflow %s ended as %s", started.WorkflowID, now.Status)
		default:
			r.view.show(now)
		}
		if err := wait(ctx, followEvery); err != nil {
			return err
		}
	}
}

func (r *run) addRelease(name string, release lifecycle.Digest, fate, reason string) {
	line := ReleaseLine{Name: name, Release: release, Fate: fate, Reason: reason}
	lines := slices.DeleteFunc(r.state.Summary.Releases, func(l ReleaseLine) bool { return l.Name == name })
	r.state.Summary.Releases = append(lines, line)
}

func (r *run) addresses() map[string]string {
	p := r.place
	return map[string]string{
		"gateway": p.gateway(), "console": "http://" + r.settings.Control, "temporal_ui": p.ui,
		"promote":   control.StartURL(p.ui, p.namespace, "PromoteRelease", "promote/"+r.service.Name),
		"pretrain":  control.StartURL(p.ui, p.namespace, "ContinuePretraining", "pretrain/"+r.service.Name),
		"index":     control.StartURL(p.ui, p.namespace, "RebuildIndex", "index/"+r.service.Name),
		"evaluate":  control.StartURL(p.ui, p.namespace, "EvaluateRelease", "evaluate/"+r.service.Name),
		"tune":      control.StartURL(p.ui, p.namespace, "TuneFromFeedback", "tune/"+r.service.Name),
		"metrics":   p.gateway() + "/metrics",
		"workflows": control.WorkflowURL(p.ui, p.namespace, "", ""),
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
