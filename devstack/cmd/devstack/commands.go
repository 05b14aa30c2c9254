package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/devstack/internal/layout"
	"github.com/refitml/refit/devstack/internal/postgres"
	"github.com/refitml/refit/devstack/internal/stack"
)

// app holds what all commands share.
type app struct {
	data, checkout string
}

func (a *app) folder() (layout.Folder, error) {
	return layout.Choose(a.data, a.checkout, os.Getenv, os.Geteuid())
}

func newUp(a *app) *cobra.Command {
	var free, foreground bool
	cmd := &cobra.Command{Use: "up", Short: "Start the stack and wait until it is ready", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&free, "free-ports", false, "pick free ports and remember them")
	cmd.Flags().BoolVar(&foreground, "foreground", false, "stay in this process until it is interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := a.folder()
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if err := ensurePrograms(cmd.Context(), f, cmd.ErrOrStderr()); err != nil {
			return err
		}
		if foreground {
			return serve(cmd.Context(), f, free, func(line string) { fmt.Fprintln(out, line) }, func(s layout.Stack) { show(out, s) })
		}
		s, already, err := stack.Start(cmd.Context(), launch(f, free, cmd.ErrOrStderr()))
		if err != nil {
			return err
		}
		if already {
			fmt.Fprintln(out, "the stack runs already")
		}
		show(out, s)
		return nil
	}
	return cmd
}

// ensurePrograms installs PostgreSQL's programs where they are missing.
func ensurePrograms(ctx context.Context, f layout.Folder, out io.Writer) error {
	_, err := postgres.Find(ctx, f.Path("postgres"), os.Getenv)
	if !errors.Is(err, postgres.ErrNoPrograms) {
		return err
	}
	if err := postgres.Install(ctx, out); err != nil {
		return fmt.Errorf("install PostgreSQL: %w", err)
	}
	_, err = postgres.Find(ctx, f.Path("postgres"), os.Getenv)
	return err
}

// launch starts this program again as the serving process.
func launch(f layout.Folder, free bool, out io.Writer) stack.Launch {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	command := []string{self, "serve", "--data", string(f)}
	if free {
		command = append(command, "--free-ports")
	}
	return stack.Launch{Folder: f, Command: command, Out: out}
}

func show(out io.Writer, s layout.Stack) {
	fmt.Fprintf(out, "PostgreSQL  %s\nTemporal    %s (namespace %s)\nTemporal UI %s\nS3          http://%s (bucket %s)\nstack file  %s\n",
		s.Postgres.Address, s.Temporal.Address, s.Temporal.Namespace, s.Temporal.UIURL, s.S3.Endpoint, s.S3.Bucket,
		layout.Folder(s.Data).Path("stack.json"))
}

// newServe is what `up` and `run` start detached.
func newServe(a *app) *cobra.Command {
	var free, leashed bool
	cmd := &cobra.Command{Use: "serve", Hidden: true, Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&free, "free-ports", false, "")
	cmd.Flags().BoolVar(&leashed, "leashed", false, "stop and remove the data when standard input ends")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		announcer := stack.Announce()
		f, err := a.folder()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(cmd.Context())
		defer cancel()
		if leashed {
			go func() {
				io.Copy(io.Discard, os.Stdin)
				cancel()
			}()
		}
		err = serve(ctx, f, free, announcer.Progress, func(layout.Stack) { announcer.Ready() })
		if leashed && !errors.Is(err, layout.ErrLocked) {
			err = errors.Join(err, f.Remove())
		}
		return err
	}
	return cmd
}

func serve(ctx context.Context, f layout.Folder, free bool, progress func(string), ready func(layout.Stack)) error {
	signal.Ignore(syscall.SIGPIPE) // whoever started this process may be gone
	return stack.Serve(ctx, stack.Config{
		Folder: f, FreePorts: free, Getenv: os.Getenv, Progress: progress,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, ready)
}

func newDown(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Stop the stack; its data stays", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := a.folder()
			if err != nil {
				return err
			}
			was, err := stack.Stop(cmd.Context(), f)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "stopped (it was %s); data in %s\n", was, f)
			}
			return err
		},
	}
}

func newClean(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "clean", Short: "Stop the stack and remove its data folder", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := a.folder()
			if err != nil {
				return err
			}
			if _, err := stack.Stop(cmd.Context(), f); err != nil {
				return err
			}
			if err := f.Remove(); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed %s\n", f)
			return nil
		},
	}
}

func newStatus(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "status", Short: "Say whether the stack runs and where",
		Long: "Say whether the stack runs and where: ready, starting, stopped, or orphaned (PostgreSQL runs without the rest; `up` adopts it). JSON holds no password.",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f, err := a.folder()
		if err != nil {
			return err
		}
		state, s, err := stack.Look(f)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		switch output {
		case "json":
			return json.NewEncoder(out).Encode(statusOf(f, state, s))
		case "text":
			fmt.Fprintf(out, "%s; data in %s\n", state, f)
			if state == stack.Ready {
				show(out, s)
			}
			return nil
		}
		return fmt.Errorf("--output is %q; give text or json", output)
	}
	return cmd
}

// status is the JSON of `devstack status`. Addresses are empty unless the state is ready.
type status struct {
	State      stack.State `json:"state"`
	Data       string      `json:"data"`
	StackFile  string      `json:"stack_file,omitempty"`
	PID        int         `json:"pid,omitempty"`
	Postgres   string      `json:"postgres,omitempty"`
	Temporal   string      `json:"temporal,omitempty"`
	TemporalUI string      `json:"temporal_ui,omitempty"`
	S3         string      `json:"s3,omitempty"`
}

func statusOf(f layout.Folder, state stack.State, s layout.Stack) status {
	st := status{State: state, Data: string(f)}
	if state == stack.Ready {
		st.StackFile, st.PID = f.Path("stack.json"), s.PID
		st.Postgres, st.Temporal, st.TemporalUI, st.S3 = s.Postgres.Address, s.Temporal.Address, s.Temporal.UIURL, s.S3.Endpoint
	}
	return st
}

func newRun(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "run [--data DIR] -- COMMAND [ARG...]",
		Short: "Run a command on a stack of its own",
		Long: `Start a stack on free ports in a fresh folder (or --data), run the command with REFIT_TEST_STACK set to the stack file,
then stop the stack and remove its data, also when the command fails or this program is interrupted or killed.
Exits with the command's code.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runOn(cmd.Context(), a.data, args, cmd.ErrOrStderr())
		},
	}
}

func runOn(ctx context.Context, data string, args []string, out io.Writer) (err error) {
	f, err := ownFolder(data)
	if err != nil {
		return err
	}
	defer func() {
		clean := context.WithoutCancel(ctx) // what was started is stopped, also after an interrupt
		_, failed := stack.Stop(clean, f)
		if failed == nil {
			failed = f.Remove()
		}
		if failed != nil { // said here, because the command's exit code may say something else
			fmt.Fprintf(out, "devstack: the stack in %s could not be removed: %v\n", f, failed)
			err = errors.Join(err, failed)
		}
	}()
	if err := ensurePrograms(ctx, f, out); err != nil {
		return err
	}
	// The write end of this pipe lives as long as this process: when it is killed, the stack reads the end of
	// the leash and removes itself.
	leash, hold, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make leash: %w", err)
	}
	defer hold.Close()
	l := launch(f, true, out)
	l.Command, l.Leash = append(l.Command, "--leashed"), leash
	_, _, err = stack.Start(ctx, l)
	leash.Close()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "REFIT_TEST_STACK="+f.Path("stack.json"))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitCode(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	return nil
}

// exitCode is how the command of `run` ended; it has said itself what was wrong.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// ownFolder is a folder for one run: the given one, which must not hold a stack yet, or a fresh one that
// user postgres can reach.
func ownFolder(data string) (layout.Folder, error) {
	if data == "" {
		dir, err := os.MkdirTemp("/var/tmp", "refit-stack-")
		if err != nil {
			return "", fmt.Errorf("make folder: %w", err)
		}
		return layout.Folder(dir), layout.Folder(dir).Make()
	}
	f, err := layout.Choose(data, "", os.Getenv, os.Geteuid())
	if err != nil {
		return "", err
	}
	if f.Marked() {
		return "", fmt.Errorf("%s holds a stack already; `run` would remove it: give another folder", f)
	}
	return f, f.Make()
}
