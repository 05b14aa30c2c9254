package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/refitml/refit/devstack/internal/layout"
	"github.com/refitml/refit/devstack/internal/objects"
	"github.com/refitml/refit/devstack/internal/postgres"
	"github.com/refitml/refit/devstack/internal/temporal"
)

// Config says which stack.
type Config struct {
	Folder    layout.Folder
	FreePorts bool // pick free ports where the environment names none
	Getenv    func(string) string
	Log       *slog.Logger
	Progress  func(line string) // told what happens, in words for people; may be nil
}

// Attributes are the search attributes of the namespace, all of type Keyword.
var attributes = []string{"RefitService", "RefitRelease", "RefitPhase", "RefitLoop"}

const (
	workflowDatabase   = "temporal"
	visibilityDatabase = "temporal_visibility"
	stopLimit          = 3 * time.Minute
)

// parts are what runs.
type parts struct {
	config   Config
	ports    layout.Ports
	secrets  layout.Secrets
	cluster  *postgres.Cluster
	temporal *temporal.Server
	objects  *objects.Server
}

// Serve runs the stack until the context ends, and calls ready when all of it answers and the stack file is
// written. It returns when everything has stopped, the postmaster too. layout.ErrLocked: another process serves it.
func Serve(ctx context.Context, c Config, ready func(layout.Stack)) (err error) {
	if err := c.Folder.Make(); err != nil {
		return err
	}
	lock, err := c.Folder.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := c.Folder.RemoveStack(); err != nil { // left by a killed process
		return err
	}
	// Temporal's working set is small; a tight collector keeps the process at a modest size on a small machine.
	debug.SetGCPercent(50)

	p := &parts{config: c}
	p.ports, err = layout.ChoosePorts(c.Folder, c.Getenv, c.FreePorts, postgres.Running(c.Folder.Path("postgres")))
	if err != nil {
		return err
	}
	if p.secrets, err = c.Folder.LoadSecrets(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(context.WithoutCancel(ctx))) }()
	if err := p.start(ctx); err != nil {
		return err
	}
	stack := layout.NewStack(c.Folder, p.ports, p.secrets)
	if err := c.Folder.WriteStack(stack); err != nil {
		return err
	}
	ready(stack)
	return p.watch(ctx)
}

func (p *parts) say(format string, args ...any) {
	if p.config.Progress != nil {
		p.config.Progress(fmt.Sprintf(format, args...))
	}
}

func (p *parts) start(ctx context.Context) error {
	if err := p.startPostgres(ctx); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := p.startObjects(ctx); err != nil {
		return fmt.Errorf("start S3: %w", err)
	}
	if err := p.startTemporal(ctx); err != nil {
		return fmt.Errorf("start Temporal: %w", err)
	}
	return nil
}

func (p *parts) startPostgres(ctx context.Context) error {
	folder := p.config.Folder
	dir := folder.Path("postgres")
	programs, err := postgres.Find(ctx, dir, p.config.Getenv)
	if err != nil {
		return err
	}
	fsync := p.config.Getenv("REFIT_POSTGRES_FSYNC")
	if fsync != "" && fsync != "on" && fsync != "off" {
		return fmt.Errorf("REFIT_POSTGRES_FSYNC is %q; give on or off", fsync)
	}
	p.cluster, err = postgres.Open(ctx, postgres.Config{
		Programs: programs, Dir: dir, LogFile: folder.Path("postgres.log"), Port: p.ports.Postgres,
		Password: p.secrets.Admin, NoFsync: fsync == "off", Log: p.config.Log,
	})
	if err != nil {
		return err
	}
	adopted, err := p.cluster.Start(ctx)
	if err != nil {
		return err
	}
	how := "started"
	if adopted {
		how = "found running, adopted"
	}
	p.say("PostgreSQL on %s (%s)", layout.Address(p.ports.Postgres), how)
	roles := []postgres.Role{
		{Name: layout.OwnerRole, Password: p.secrets.Owner, CreateDB: true},
		{Name: layout.AppRole, Password: p.secrets.App},
		{Name: layout.RollbackRole, Password: p.secrets.Rollback},
		{Name: layout.TemporalRole, Password: p.secrets.Temporal},
	}
	databases := []postgres.Database{{Name: layout.Database, Owner: layout.OwnerRole, Connect: []string{layout.AppRole, layout.RollbackRole}}}
	return postgres.Provide(ctx, p.adminURL(), roles, databases)
}

func (p *parts) adminURL() string {
	return layout.PostgresURL(p.ports.Postgres, "postgres", p.secrets.Admin, "postgres")
}

func (p *parts) startObjects(ctx context.Context) error {
	var err error
	p.objects, err = objects.Start(ctx, objects.Config{
		Dir: p.config.Folder.Path("s3"), Versions: p.config.Folder.Path("s3-versions"), Address: layout.Address(p.ports.S3),
		AccessKey: p.secrets.S3Access, SecretKey: p.secrets.S3Secret, Bucket: layout.Bucket,
	})
	if err != nil {
		return err
	}
	p.say("S3 on %s, bucket %s", layout.Address(p.ports.S3), layout.Bucket)
	return nil
}

func (p *parts) startTemporal(ctx context.Context) error {
	config := temporal.Config{
		PostgresAddress: layout.Address(p.ports.Postgres), Role: layout.TemporalRole, Password: p.secrets.Temporal,
		Database: workflowDatabase, Visibility: visibilityDatabase,
		Host: "127.0.0.1", Frontend: p.ports.Temporal, History: p.ports.History, Matching: p.ports.Matching,
		Worker: p.ports.Worker, UI: p.ports.TemporalUI,
		Namespace: layout.Namespace, SearchAttributes: attributes,
	}
	for database, kind := range map[string]string{workflowDatabase: "temporal", visibilityDatabase: "visibility"} {
		if err := p.migrate(ctx, config, database, kind); err != nil {
			return err
		}
	}
	var err error
	if p.temporal, err = temporal.Start(ctx, config); err != nil {
		return err
	}
	p.say("Temporal on %s, namespace %s; its UI on http://%s", layout.Address(p.ports.Temporal), layout.Namespace, layout.Address(p.ports.TemporalUI))
	return nil
}

// migrate makes a database of Temporal's. The schema comes in many statements without a transaction around
// them, so a first attempt that was killed half way is thrown away; nobody has used it yet.
func (p *parts) migrate(ctx context.Context, config temporal.Config, database, kind string) error {
	finished, err := postgres.Finished(ctx, p.adminURL(), database)
	if err != nil {
		return err
	}
	if !finished {
		if err := postgres.Drop(ctx, p.adminURL(), database); err != nil {
			return err
		}
		if err := postgres.Provide(ctx, p.adminURL(), nil, []postgres.Database{{Name: database, Owner: layout.TemporalRole}}); err != nil {
			return err
		}
	}
	if err := config.Migrate(database, kind); err != nil {
		return err
	}
	if finished {
		return nil
	}
	p.say("schema of database %s made", database)
	return postgres.MarkFinished(ctx, p.adminURL(), database)
}

// watch returns nil when the context ends, and an error when a part ended that cannot be started again.
func (p *parts) watch(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-p.objects.Done():
			return fmt.Errorf("S3 ended by itself: %w", err)
		case <-tick.C:
			if p.cluster.Alive() {
				continue
			}
			p.config.Log.Error("PostgreSQL ended by itself, starting it again")
			if _, err := p.cluster.Start(ctx); err != nil && ctx.Err() == nil {
				p.config.Log.Error("PostgreSQL did not start, trying again", "error", err)
			}
		}
	}
}

// stop ends what runs, what was started last first.
func (p *parts) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	var faults []error
	faults = append(faults, p.config.Folder.RemoveStack())
	if p.temporal != nil {
		faults = append(faults, p.temporal.Stop())
	}
	if p.objects != nil {
		if err := p.objects.Stop(); err != nil && !errors.Is(err, context.Canceled) {
			faults = append(faults, fmt.Errorf("stop S3: %w", err))
		}
	}
	if p.cluster != nil {
		faults = append(faults, postgres.Stop(ctx, p.config.Folder.Path("postgres")))
	}
	return errors.Join(faults...)
}
