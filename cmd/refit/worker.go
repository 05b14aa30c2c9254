package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"

	"github.com/refitml/refit/activities"
	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
	"github.com/refitml/refit/internal/steps"
	"github.com/refitml/refit/workers"
)

// keepEvery is how often a worker looks after the model servers that it started.
const keepEvery = 5 * time.Second

// anchorEvery is how often a worker looks for ledgers that have grown.
const anchorEvery = time.Minute

// localEngine is the one engine for jobs and model servers that a worker brings with it.
const localEngine = "local"

func (p *process) runWorker(ctx context.Context, s *shared) error {
	temporal, err := s.workflows()
	if err != nil {
		return err
	}
	set, store, err := p.activities(ctx, s, temporal)
	if err != nil {
		return err
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.awaitRecord(ctx, set.Common.Registry); err != nil {
		return err
	}
	if err := s.awaitTemporal(ctx, temporal); err != nil {
		return err
	}
	set.Common.SearchAttributes = p.searchAttributes(ctx, temporal)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { p.ensureBucket(ctx, store); return nil })
	if queues := p.settings.Worker.Queues; len(queues) == 0 || slices.Contains(queues, steps.QueueData) { // where releases are loaded
		group.Go(func() error { return set.Promotion.Keep(ctx, keepEvery) })
	}
	group.Go(func() error {
		return activities.Anchors{Registry: set.Common.Registry, Store: store, Lock: p.settings.S3.LockTime, Log: p.log}.Keep(ctx, anchorEvery)
	})
	group.Go(func() error { return p.poll(ctx, s, temporal, set) })
	return group.Wait()
}

// poll does workflows and their steps. A Temporal that goes away while they begin is waited for, as one that is away
// before; from then on the workers wait for it themselves.
func (p *process) poll(ctx context.Context, s *shared, temporal client.Client, set activities.Set) error {
	for {
		w, err := workers.New(workers.Config{
			Client: temporal, Activities: set, Queues: p.settings.Worker.Queues, Engines: []string{localEngine},
			BuildID: buildID(p.settings.Worker), Drain: p.settings.Worker.Drain, Log: p.log,
		})
		if err != nil {
			return err
		}
		err = w.Run(ctx, func() { p.log.Info("worker polls", "build_id", buildID(p.settings.Worker)) })
		if !lifecycle.Is(err, lifecycle.Unavailable) || ctx.Err() != nil {
			return err
		}
		p.log.Warn("the worker begins again", "because", err)
		if err := s.awaitTemporal(ctx, temporal); err != nil {
			return err
		}
	}
}

// activities joins every step with what it works on.
func (p *process) activities(ctx context.Context, s *shared, temporal client.Client) (activities.Set, *artifacts.Store, error) {
	var set activities.Set
	record, captured, err := s.record(ctx)
	if err != nil {
		return set, nil, err
	}
	store, cache, err := s.artifacts()
	if err != nil {
		return set, nil, err
	}
	public, err := p.publicGrantKey()
	if err != nil {
		return set, nil, err
	}
	jobs, servers, err := p.engines()
	if err != nil {
		return set, nil, err
	}
	for _, folder := range []string{"scratch", "suites"} {
		if err := os.MkdirAll(p.path(folder), 0o700); err != nil {
			return set, nil, lifecycle.Errorf(lifecycle.Invalid, "data: %w", err)
		}
	}
	shelf := activities.Shelf{Registry: record, Store: store, Cache: cache, Scratch: p.path("scratch")}
	evaluation := activities.Evaluation{
		Shelf: shelf, Engines: servers, Unfinished: p.path("suites"), Secret: configs.Secret, Log: p.log,
		Roots: p.settings.Worker.DataRoots, Judges: judges(p.settings.Scoring), Commands: scoreCommands(p.settings.Scoring),
	}
	set = activities.Set{
		Common: activities.Common{
			Registry: record, Temporal: temporal, Namespace: p.settings.Temporal.Namespace,
			UI: p.workflowPage(), GrantKey: public,
		},
		Datasets:   activities.Datasets{Shelf: shelf, Roots: p.settings.Worker.DataRoots},
		Jobs:       activities.Jobs{Shelf: shelf, Engines: jobs, Log: p.log},
		Releases:   activities.Releases{Registry: record},
		Index:      activities.Index{Shelf: shelf, Engines: servers, Secret: configs.Secret},
		Evaluation: evaluation,
		Promotion: activities.Promotion{
			Registry: record, Captured: captured, Cache: cache, Temporal: temporal, Engines: servers, Log: p.log, Scores: evaluation.PairScorer,
		},
		Tuning:  activities.Tuning{Shelf: shelf, Captured: captured, Roots: p.settings.Worker.DataRoots},
		Archive: activities.Archive{Shelf: shelf, Captured: captured},
	}
	return set, store, nil
}

func judges(s configs.Scoring) map[string]activities.Judge {
	all := map[string]activities.Judge{}
	for name, j := range s.Judges {
		all[name] = activities.Judge{URL: j.URL, Model: j.Model, APIKey: j.APIKey, TimeLimit: j.TimeLimit}
	}
	return all
}

func scoreCommands(s configs.Scoring) map[string]activities.Command {
	all := map[string]activities.Command{}
	for name, c := range s.Commands {
		all[name] = activities.Command{Argv: c.Argv, TimeLimit: c.TimeLimit}
	}
	return all
}

// workflowPage gives a run's address in the Temporal UI, where there is one.
func (p *process) workflowPage() func(lifecycle.Owner) string {
	ui := p.settings.Temporal.UI
	if ui == "" {
		return nil
	}
	return func(o lifecycle.Owner) string {
		return control.WorkflowURL(ui, o.Namespace, o.WorkflowID, o.FirstRunID)
	}
}

// engines runs jobs and model servers on this machine, with the reference runtime.
func (p *process) engines() (map[string]compute.Engine, map[string]serving.Engine, error) {
	runtime := p.runtime()
	jobs, err := compute.OpenLocal(compute.LocalConfig{
		Root: p.path("jobs"), Slots: p.settings.Worker.Slots, Log: p.log,
		// Declarations name the runtime without a path.
		Env: map[string]string{"PATH": filepath.Dir(runtime) + string(filepath.ListSeparator) + os.Getenv("PATH")},
	})
	if err != nil {
		return nil, nil, err
	}
	local, err := serving.NewLocal(serving.LocalConfig{StateDir: p.path("servers"), Command: []string{runtime, "serve"}, Log: p.log})
	if err != nil {
		return nil, nil, err
	}
	static := serving.NewStatic(serving.StaticConfig{Secret: configs.Secret})
	return map[string]compute.Engine{localEngine: jobs}, map[string]serving.Engine{localEngine: local, "static": static}, nil
}

// runtime finds refit-runtime: as the settings say, else beside this program.
func (p *process) runtime() string {
	name := p.settings.Worker.Runtime
	if found, err := exec.LookPath(name); err == nil {
		if found, err = filepath.Abs(found); err == nil {
			return found
		}
	}
	if self, err := os.Executable(); err == nil {
		if beside := filepath.Join(filepath.Dir(self), name); isProgram(beside) {
			return beside
		}
	}
	p.log.Warn("the reference runtime is not there: jobs and model servers of engine local will fail (worker.runtime)", "runtime", name)
	return name
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// searchAttributes says whether the namespace has Refit's; where they cannot be added it goes on without.
func (p *process) searchAttributes(ctx context.Context, temporal client.Client) bool {
	limited, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := p.await(limited, "Temporal, to add search attributes", func(ctx context.Context) error {
		return control.EnsureSearchAttributes(ctx, temporal, p.settings.Temporal.Namespace)
	})
	if err != nil {
		if ctx.Err() == nil {
			p.log.Warn("runs without search attributes: the Temporal UI cannot filter by service, loop, phase and release", "because", err)
		}
		return false
	}
	return true
}

// ensureBucket makes the bucket where it is missing. Who may not make it makes it beforehand; steps that need
// it say what is wrong.
func (p *process) ensureBucket(ctx context.Context, store *artifacts.Store) {
	err := p.await(ctx, "S3 at "+p.settings.S3.Endpoint, store.EnsureBucket)
	if err != nil && ctx.Err() == nil {
		p.log.Warn("the bucket could not be made; make it by hand if it is not there", "bucket", p.settings.S3.Bucket, "because", err)
	}
}
