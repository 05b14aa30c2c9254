package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/serving"
)

// place is where a run happens: the one-machine stack and `refit up`, each a process of its own that outlives the
// run.
type place struct {
	settings  Settings
	data      string // folder
	stackFile string
	ui        string // base address of the Temporal UI
	namespace string
	s3        string
}

// upTime bounds the start of `refit up`, the migration of an empty registry included.
const upTime = 2 * time.Minute

// open finds or starts the stack and reads where it is.
func (p *place) open(ctx context.Context) error {
	p.data, p.stackFile = p.settings.Data, p.settings.StackFile
	if p.stackFile == "" {
		if err := p.freePorts(ctx); err != nil {
			return err
		}
		if err := p.devstack(ctx, "up"); err != nil {
			return err
		}
		status, err := p.stackStatus(ctx)
		if err != nil {
			return err
		}
		p.data, p.stackFile = status.Data, status.StackFile
	}
	raw, err := os.ReadFile(p.stackFile)
	if err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "read the stack file: %w", err)
	}
	var stack struct {
		Temporal struct {
			Namespace string `json:"namespace"`
			UI        string `json:"ui_url"`
		} `json:"temporal"`
		S3 struct {
			Endpoint string `json:"endpoint"`
		} `json:"s3"`
	}
	if err := json.Unmarshal(raw, &stack); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "read the stack file %s: %w", p.stackFile, err)
	}
	p.namespace, p.ui, p.s3 = stack.Temporal.Namespace, stack.Temporal.UI, stack.S3.Endpoint
	return lifecycle.Wrap(os.MkdirAll(p.path("demo"), 0o755), "make the demo's folder")
}

func (p *place) path(elements ...string) string {
	return filepath.Join(append([]string{p.data}, elements...)...)
}

func (p *place) gateway() string { return "http://" + p.settings.Gateway }

func (p *place) log() string { return p.path("demo", "refit-up.log") }

// client is the control API as the user of this machine reaches it.
func (p *place) client() (control.Client, error) {
	raw, err := os.ReadFile(p.path("control-token"))
	if err != nil {
		return control.Client{}, lifecycle.Errorf(lifecycle.Unavailable, "read the control API's token: %w", err)
	}
	return control.Client{URL: "http://" + p.settings.Control, Token: strings.TrimSpace(string(raw))}, nil
}

func (p *place) devstack(ctx context.Context, arguments ...string) error {
	command := exec.CommandContext(ctx, filepath.Join(p.settings.Bin, "devstack"), p.stackArguments(arguments)...)
	command.Stdout, command.Stderr = p.settings.Out, p.settings.Out
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	if err := command.Run(); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "devstack %s: %w", arguments[0], err)
	}
	return nil
}

func (p *place) stackArguments(arguments []string) []string {
	arguments = append(arguments, "--checkout", p.settings.Checkout)
	if p.settings.Data != "" {
		arguments = append(arguments, "--data", p.settings.Data)
	}
	return arguments
}

type stackStatus struct {
	State     string `json:"state"`
	Data      string `json:"data"`
	StackFile string `json:"stack_file"`
}

func (p *place) stackStatus(ctx context.Context) (stackStatus, error) {
	var status stackStatus
	out, err := exec.CommandContext(ctx, filepath.Join(p.settings.Bin, "devstack"), p.stackArguments([]string{"status", "-o", "json"})...).Output()
	if err == nil {
		err = json.Unmarshal(out, &status)
	}
	if err != nil {
		return status, lifecycle.Errorf(lifecycle.Unavailable, "ask devstack where the stack is: %w", err)
	}
	return status, nil
}

// freePorts refuses before anything is started when an address of `refit up` is taken by somebody else.
func (p *place) freePorts(ctx context.Context) error {
	status, err := p.stackStatus(ctx)
	if err != nil {
		return err
	}
	if upOf(status.Data, p.settings.Bin).alive() {
		return nil // they are our own
	}
	return p.checkPorts()
}

func (p *place) checkPorts() error {
	var faults lifecycle.Problems
	for setting, address := range map[string]string{GatewayVariable: p.settings.Gateway, ControlVariable: p.settings.Control} {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			faults.Add(setting, address+" cannot be listened on: "+err.Error(), "stop what listens there, or set %s to another host:port", setting)
			continue
		}
		_ = listener.Close()
	}
	if err := faults.Err("`refit up`"); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "%w", err)
	}
	return nil
}

// up is the process of `refit up` that a run started.
type up struct {
	data, program string
	told          string // what it was started with, beside the program
}

// upOf names the program as the kernel does: without links.
func upOf(data, bin string) up {
	if real, err := filepath.EvalSymlinks(bin); err == nil {
		bin = real
	}
	return up{data: data, program: filepath.Join(bin, "refit")}
}

func (u up) file() string { return filepath.Join(u.data, "demo", "refit-up.pid") }

// pid gives the process's number, or 0 where none is known or another program has it by now.
func (u up) pid() int {
	raw, err := os.ReadFile(u.file())
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(raw), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return 0
	}
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || strings.TrimSuffix(program, " (deleted)") != u.program {
		return 0
	}
	return pid
}

func (u up) alive() bool { return u.pid() != 0 }

// stale says that the process was started with other settings, or that its program was built anew since.
func (u up) stale() bool {
	started, err := os.Stat(u.file())
	if err != nil {
		return false
	}
	raw, err := os.ReadFile(u.file())
	if _, told, _ := strings.Cut(string(raw), "\n"); err == nil && told != u.told {
		return true
	}
	built, err := os.Stat(u.program)
	return err == nil && built.ModTime().After(started.ModTime())
}

// write remembers the process.
func (u up) write(pid int) error { return replace(u.file(), []byte(strconv.Itoa(pid)+"\n"+u.told)) }

// stop asks the process to end and waits until it has; it insists after the time that it may take to drain.
func (u up) stop(ctx context.Context) error {
	pid := u.pid()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop `refit up` (process %d): %w", pid, err)
	}
	insist := time.After(time.Minute)
	for u.alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-insist:
			return syscall.Kill(pid, syscall.SIGKILL)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// refitUp sees to it that `refit up` runs with this run's stack and answers.
func (p *place) refitUp(ctx context.Context) error {
	u := upOf(p.data, p.settings.Bin)
	u.told = strings.Join(p.environment(), "\n")
	if u.alive() && u.stale() {
		if err := u.stop(ctx); err != nil {
			return err
		}
	}
	if !u.alive() {
		if err := p.checkPorts(); err != nil {
			return err
		}
		if err := p.startUp(u); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, upTime, lifecycle.Errorf(lifecycle.Unavailable, "`refit up` does not answer after %s; its log is %s", upTime, p.log()))
	defer cancel()
	for {
		err := p.answers(ctx)
		if err == nil {
			return nil
		}
		if !u.alive() {
			return lifecycle.Errorf(lifecycle.Unavailable, "`refit up` ended; its log is %s:\n%s", p.log(), tail(p.log()))
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			return lifecycle.Errorf(lifecycle.Unavailable, "%w: %w", context.Cause(ctx), err)
		}
	}
}

// startUp starts the process in a session of its own: it goes on when the run ends.
func (p *place) startUp(u up) error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return lifecycle.Wrap(err, "open the log of `refit up`")
	}
	defer log.Close()
	command := exec.Command(u.program, "up")
	command.Stdout, command.Stderr = log, log
	command.Env = append(os.Environ(), p.environment()...)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return lifecycle.Errorf(lifecycle.Unavailable, "start `refit up`: %w", err)
	}
	go func() { _ = command.Wait() }() // reaps it if it ends before this process does
	return u.write(command.Process.Pid)
}

// environment is what `refit up` is told beside what this process has.
func (p *place) environment() []string {
	told := []string{
		"REFIT_STACK=" + p.stackFile, "REFIT_DATA=" + p.data, GatewayVariable + "=" + p.settings.Gateway,
		ControlVariable + "=" + p.settings.Control, "REFIT_WORKER_RUNTIME=" + filepath.Join(p.settings.Bin, "refit-runtime"),
	}
	if p.settings.Text != "" {
		told = append(told, "REFIT_WORKER_DATA_ROOTS="+p.settings.Text)
	}
	return append(told, p.settings.Env...)
}

// answers asks gateway, control API and registry.
func (p *place) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.gateway()+"/healthz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	client, err := p.client()
	if err != nil {
		return err
	}
	_, err = control.Call(ctx, client, control.Services, struct{}{})
	return err
}

// Stop ends what a run left running: `refit up`, the model servers, and the stack where the run started it. Data
// stays.
func Stop(ctx context.Context, settings Settings) error {
	settings, err := settings.withDefaults()
	if err != nil {
		return err
	}
	p := place{settings: settings, data: settings.Data}
	if settings.StackFile == "" {
		status, err := p.stackStatus(ctx)
		if err != nil {
			return err
		}
		p.data = status.Data
	}
	err = upOf(p.data, settings.Bin).stop(ctx)
	err = errors.Join(err, p.stopServers(ctx))
	if settings.StackFile == "" {
		err = errors.Join(err, p.devstack(ctx, "down"))
	}
	return err
}

// stopServers ends the model servers that `refit up` started: they outlive it, so that users are served while it
// restarts.
func (p *place) stopServers(ctx context.Context) error {
	if _, err := os.Stat(p.path("servers")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	engine, err := serving.NewLocal(serving.LocalConfig{StateDir: p.path("servers"), Log: p.settings.Log})
	if err != nil {
		return err
	}
	servers, err := engine.List(ctx)
	for _, s := range servers {
		err = errors.Join(err, engine.Unload(ctx, s.Name))
	}
	return err
}

// tail gives the last lines of a log.
func tail(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}
