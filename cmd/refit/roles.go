package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/compute"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
	"github.com/refitml/refit/internal/telemetry"
)

// Roles of a process.
const (
	gatewayRole = "gateway"
	workerRole  = "worker"
	consoleRole = "console"
)

const rolesHelp = `It says which addresses it listens on and logs to standard error. What it needs and does not reach (PostgreSQL,
Temporal, S3) it waits for, saying so; the gateway serves its last stable releases meanwhile. SIGTERM stops it: requests
and steps in flight may end (gateway.drain, worker.drain). A second signal ends it at once. Stopped so it exits 0.`

func newUp(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "up", Short: "Run gateway, worker and console in one process", Args: cobra.NoArgs,
		Long: "Run gateway, worker and console in one process. With registry.owner_url it migrates the registry first.\n" +
			rolesHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.serve(cmd.Context(), gatewayRole, workerRole, consoleRole)
		},
	}
}

func newRole(a *app, name string) *cobra.Command {
	short := map[string]string{
		gatewayRole: "Run the data plane: the OpenAI-compatible front that splits, meters and captures",
		workerRole:  "Run workflows and their steps",
		consoleRole: "Run the control API and the console's page",
	}[name]
	return &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Long: short + ".\n" + rolesHelp,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), name) },
	}
}

// serve runs roles until ctx ends.
func (a *app) serve(ctx context.Context, roles ...string) error {
	settings, err := configs.Load(a.settings)
	if err != nil {
		return err
	}
	log, err := telemetry.NewLogger(telemetry.LogConfig{Level: settings.Log.Level, Format: settings.Log.Format, Out: a.diagnostics})
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "log: %w", err)
	}
	slog.SetDefault(log) // of what is given no logger
	p := &process{settings: settings, roles: roles, log: log, metrics: telemetry.NewRegistry()}
	if err := p.open(); err != nil {
		return err
	}
	defer p.close()
	a.announce(p)
	return p.run(ctx)
}

// announce says where the process listens.
func (a *app) announce(p *process) {
	if a.asJSON() {
		a.printJSON(map[string]any{"roles": p.roles, "data": p.settings.Data, "addresses": p.addresses()})
		return
	}
	fmt.Fprintf(a.out, "refit runs %s; data in %s\n", strings.Join(p.roles, ", "), p.settings.Data)
	addresses := p.addresses()
	for _, name := range []string{gatewayRole, consoleRole, metricsListener} {
		if address, ok := addresses[name]; ok {
			fmt.Fprintf(a.out, "%-8s %s\n", name, address)
		}
	}
	if slices.Contains(p.roles, consoleRole) {
		fmt.Fprintf(a.out, "token    in %s\n", p.settings.Control.TokenFile)
	}
}

func newMigrate(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "migrate", Short: "Bring the registry's database to this Refit's schema", Args: cobra.NoArgs,
		Long: "Bring the registry's database to this Refit's schema as its owner (registry.owner_url). Doing it again changes nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := configs.Load(a.settings)
			if err != nil {
				return err
			}
			out, err := migrate(cmd.Context(), settings.Registry.OwnerURL)
			return a.report(out, err, func(w io.Writer) { fmt.Fprintln(w, out) })
		},
	}
}

// migrated says what a migration did.
type migrated struct {
	From int64 `json:"from"` // schema version before
	To   int64 `json:"to"`
}

func (m migrated) String() string {
	if m.From == m.To {
		return fmt.Sprintf("the registry has schema version %d already", m.To)
	}
	return fmt.Sprintf("the registry went from schema version %d to %d", m.From, m.To)
}

func migrate(ctx context.Context, ownerURL string) (migrated, error) {
	if ownerURL == "" {
		return migrated{}, lifecycle.Errorf(lifecycle.Invalid, "registry.owner_url: missing; give the address of the database's owner")
	}
	from, _, err := registry.SchemaVersion(ctx, ownerURL)
	if err != nil {
		return migrated{}, err
	}
	if err := registry.Migrate(ctx, ownerURL); err != nil {
		return migrated{}, err
	}
	to, _, err := registry.SchemaVersion(ctx, ownerURL)
	return migrated{From: from, To: to}, err
}

// newJobShim is what the local engine starts for every try of a job; people never do.
func newJobShim() *cobra.Command {
	return &cobra.Command{
		Use: "job-shim", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := compute.ShimMain(args); code != 0 {
				return &exitError{code, "job-shim: see above"}
			}
			return nil
		},
	}
}

// buildID is the version that workflows are pinned to: the commit of a clean build, else "devel".
func buildID(settings configs.Worker) string {
	if settings.BuildID != "" {
		return settings.BuildID
	}
	return commitOfBuild()
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unnamed"
	}
	return name
}
