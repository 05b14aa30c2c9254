package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/refitml/refit/devstack/internal/layout"
	"github.com/refitml/refit/devstack/internal/postgres"
)

// progressFD is the file descriptor on which a serving process tells who started it how far it is: lines of
// progress, then the line readyLine. It is closed when the process is ready or gone.
const (
	progressFD = 3
	readyLine  = "READY"
)

// State is what a data folder's stack is doing.
type State string

// The states, see the package's comment.
const (
	Stopped  State = "stopped"
	Starting State = "starting"
	Ready    State = "ready"
	Orphaned State = "orphaned"
)

// Look says what the stack of a folder is doing. The stack is the zero value unless the state is Ready.
func Look(f layout.Folder) (State, layout.Stack, error) {
	pid, err := f.Holder()
	if err != nil {
		return "", layout.Stack{}, err
	}
	if pid == 0 {
		if postgres.Running(f.Path("postgres")) != 0 {
			return Orphaned, layout.Stack{}, nil
		}
		return Stopped, layout.Stack{}, nil
	}
	s, err := f.ReadStack()
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && s.PID != pid:
		return Starting, layout.Stack{}, nil
	case err != nil:
		return "", layout.Stack{}, err
	}
	return Ready, s, nil
}

// Launch says how a serving process is started.
type Launch struct {
	Folder  layout.Folder
	Command []string  // program and arguments that call Serve and Announce
	Out     io.Writer // progress for people
	// Leash, if not nil, becomes the standard input of the process, which ends when it reads the end of it.
	Leash *os.File
}

// Start brings the stack of a folder up as a process of its own session and waits until it is ready. already
// says that it was ready before. When the process fails, the error carries the last lines of its log.
func Start(ctx context.Context, l Launch) (stack layout.Stack, already bool, err error) {
	if err := l.Folder.Make(); err != nil {
		return layout.Stack{}, false, err
	}
	switch state, s, err := Look(l.Folder); {
	case err != nil:
		return layout.Stack{}, false, err
	case state == Ready:
		return s, true, nil
	case state == Starting:
		s, err := awaitOther(ctx, l.Folder)
		return s, true, err
	}
	log, err := os.OpenFile(l.Folder.Path("devstack.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return layout.Stack{}, false, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return layout.Stack{}, false, fmt.Errorf("make pipe: %w", err)
	}
	defer reader.Close()
	cmd := exec.Command(l.Command[0], l.Command[1:]...)
	cmd.Dir = "/"
	if l.Leash != nil {
		cmd.Stdin = l.Leash
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{writer}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	writer.Close()
	if err != nil {
		return layout.Stack{}, false, fmt.Errorf("start the serving process: %w", err)
	}
	ready := follow(ctx, reader, l.Out, func() { cmd.Process.Signal(syscall.SIGTERM) })
	if ready {
		go cmd.Wait() // it outlives this process; if it does not, it must not stay as a zombie
		s, err := l.Folder.ReadStack()
		return s, false, err
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return layout.Stack{}, false, ctx.Err()
	}
	return layout.Stack{}, false, fmt.Errorf("the stack did not start (%w):\n%s", err, tail(l.Folder.Path("devstack.log"), 20))
}

// follow copies progress to out until the process says that it is ready (true) or closes the pipe (false). When
// the context ends first, it calls interrupt and waits for the end.
func follow(ctx context.Context, progress io.Reader, out io.Writer, interrupt func()) bool {
	stop := context.AfterFunc(ctx, interrupt)
	defer stop()
	lines := bufio.NewScanner(progress)
	for lines.Scan() {
		if lines.Text() == readyLine {
			return true
		}
		fmt.Fprintln(out, lines.Text())
	}
	return false
}

// awaitOther waits for a stack that somebody else is starting.
func awaitOther(ctx context.Context, f layout.Folder) (layout.Stack, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		state, s, err := Look(f)
		switch {
		case err != nil:
			return layout.Stack{}, err
		case state == Ready:
			return s, nil
		case state != Starting:
			return layout.Stack{}, fmt.Errorf("the stack that another command was starting is %s; see %s", state, f.Path("devstack.log"))
		}
		select {
		case <-ctx.Done():
			return layout.Stack{}, fmt.Errorf("wait for the stack that another command is starting: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// Announcer tells who started this process how far it is.
type Announcer struct{ pipe *os.File }

// Announce takes the pipe that Start left for this process. It must be called before anything is started that
// would inherit the pipe.
func Announce() *Announcer {
	syscall.CloseOnExec(progressFD)
	return &Announcer{os.NewFile(progressFD, "progress")}
}

// Progress passes a line on. Nobody listening is no fault.
func (a *Announcer) Progress(line string) {
	fmt.Fprintln(a.pipe, strings.ReplaceAll(line, "\n", " "))
}

// Ready says that the stack is ready, and closes the pipe.
func (a *Announcer) Ready() {
	fmt.Fprintln(a.pipe, readyLine)
	a.pipe.Close()
}

// Stop ends the stack of a folder in order, whoever serves it, with an orphaned postmaster too, and waits until
// all of it is gone. was says what it had been.
func Stop(ctx context.Context, f layout.Folder) (was State, err error) {
	was, _, err = Look(f)
	if err != nil {
		return "", err
	}
	pid, err := f.Holder()
	if err != nil {
		return was, err
	}
	if pid != 0 {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return was, fmt.Errorf("ask process %d to stop: %w", pid, err)
		}
		if err := awaitUnlocked(ctx, f); err != nil {
			return was, err
		}
	}
	if err := postgres.Stop(ctx, f.Path("postgres")); err != nil {
		return was, err
	}
	return was, f.RemoveStack()
}

func awaitUnlocked(ctx context.Context, f layout.Folder) error {
	ctx, cancel := context.WithTimeout(ctx, stopLimit+10*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		pid, err := f.Holder()
		if err != nil || pid == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("process " + strconv.Itoa(pid) + " did not stop; see " + f.Path("devstack.log"))
		case <-tick.C:
		}
	}
}

// tail is the end of a log for people.
func tail(path string, lines int) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
