package compute

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	shimPoll  = 100 * time.Millisecond // between looks for a cancel, a free slot, an empty session
	readyWord = "ready"
	readyFD   = 3
)

// ShimMain keeps one try: it is the whole of the hidden command `refit job-shim`. args is the try's folder,
// given by Submit together with file descriptor 3, on which the shim says that the try is queued. It must be called
// from the main goroutine. The result is an exit code; what happened to the job stands in the try's state file.
func ShimMain(args []string) int {
	// The job's parent death signal fires when the thread that started it ends; the main thread never does before the shim.
	runtime.LockOSThread()
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "job-shim: give the folder of one try; this command is started by Refit")
		return 2
	}
	s := shim{dir: tryDir(args[0])}
	if err := s.keep(); err != nil {
		fmt.Fprintln(os.Stderr, "job-shim:", err)
		return 1
	}
	return 0
}

type shim struct {
	dir   tryDir
	order order
	state state
	stop  chan os.Signal
	tick  *time.Ticker
}

// stopCause says why a shim ended a job before its time.
type stopCause string

const (
	notStopped stopCause = ""
	canceled   stopCause = "canceled"
	overdue    stopCause = "overdue"
	shutdown   stopCause = "shutdown" // somebody asked the shim itself to end
)

func (s *shim) keep() error {
	lock, err := tryLock(s.dir.shimLock())
	if err != nil {
		return err
	}
	if lock == nil {
		return errors.New("another shim keeps this try")
	}
	defer lock.Close()
	if _, err := os.Stat(s.dir.state()); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("this try was begun before: %w", err)
	}
	if s.order, err = s.dir.readOrder(); err != nil {
		return err
	}
	s.stop = make(chan os.Signal, 1)
	signal.Notify(s.stop, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP)
	s.tick = time.NewTicker(shimPoll)
	defer s.tick.Stop()
	own, err := ownSession()
	if err != nil {
		return err
	}
	s.state = state{Phase: lifecycle.JobQueued, ExitCode: -1, Session: own}
	if err := writeJSON(s.dir.state(), s.state); err != nil {
		return err
	}
	ready := os.NewFile(readyFD, "ready")
	_, err = io.WriteString(ready, readyWord)
	if err = errors.Join(err, ready.Close()); err != nil {
		fmt.Fprintln(os.Stderr, "job-shim: who submitted this try has gone:", err) // the try goes on
	}
	slot, cause, err := s.waitForSlot()
	switch {
	case err != nil:
		return s.end(lifecycle.JobFailed, -1, "wait for a slot: "+err.Error())
	case cause == canceled:
		return s.end(lifecycle.JobCanceled, -1, "canceled before it began")
	case cause == shutdown:
		return s.end(lifecycle.JobRetry, -1, "the shim was asked to end before the job began")
	}
	defer slot.Close()
	return s.runJob(slot)
}

func (s *shim) waitForSlot() (*os.File, stopCause, error) {
	for {
		for i := range s.order.Slots {
			slot, err := tryLock(filepath.Join(s.dir.root(), "slots", fmt.Sprint(i)))
			if slot != nil || err != nil {
				return slot, notStopped, err
			}
		}
		select {
		case <-s.stop:
			return nil, shutdown, nil
		case <-s.tick.C:
			if s.cancelAsked() {
				return nil, canceled, nil
			}
		}
	}
}

func (s *shim) runJob(slot *os.File) error {
	if s.cancelAsked() {
		return s.end(lifecycle.JobCanceled, -1, "canceled before it began")
	}
	log, err := os.OpenFile(s.dir.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return s.end(lifecycle.JobFailed, -1, err.Error())
	}
	defer log.Close()
	command := s.order.Run.Spec.Command
	job := exec.Command(command[0], command[1:]...)
	job.Dir, job.Stdout, job.Stderr = s.dir.home(), log, log
	job.Env = append(os.Environ(),
		"REFIT_SPEC="+s.dir.spec(), "REFIT_INPUTS="+s.dir.inputs(), "REFIT_OUTPUTS="+s.dir.outputs(),
		"REFIT_CHECKPOINTS="+s.dir.checkpoints(), s.dir.mark())
	job.ExtraFiles = []*os.File{slot} // the slot is taken as long as the job has it open
	job.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if err := job.Start(); err != nil {
		return s.end(lifecycle.JobRejected, -1, "start "+command[0]+": "+err.Error())
	}
	s.state.Phase, s.state.Started = lifecycle.JobRunning, time.Now().UTC()
	stateErr := writeJSON(s.dir.state(), s.state) // a full disk must not orphan the job; the final write is tried again
	done := make(chan error, 1)
	go func() { done <- job.Wait() }()
	cause, err := s.supervise(done)
	if err = errors.Join(err, stateErr); err != nil {
		fmt.Fprintln(os.Stderr, "job-shim:", err)
	}
	code := exitCode(job.ProcessState)
	missing, err := missingOutputs(s.dir.outputs(), s.order.Run.Spec.Outputs)
	if err != nil {
		return s.end(lifecycle.JobFailed, code, err.Error())
	}
	phase, reason := judge(code, cause, missing)
	return s.end(phase, code, reason)
}

// supervise waits until the job and all of its session have ended, and insists where that was asked for.
func (s *shim) supervise(done <-chan error) (stopCause, error) {
	cause := notStopped
	var asked time.Time // when SIGTERM was sent; zero means not yet
	ended := false
	var faults error
	ask := func(why stopCause) {
		if asked.IsZero() {
			asked = time.Now()
			faults = errors.Join(faults, s.state.Session.signal(unix.SIGTERM))
			if !ended {
				cause = why
			}
		}
	}
	began := time.Now()
	bound := time.Duration(s.order.Run.Spec.MaxTime)
	for {
		if ended {
			left, err := s.state.Session.members()
			if err == nil && len(left) == 0 {
				return cause, faults
			}
			ask(notStopped) // what the job left behind ends with it
		}
		select {
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				faults = errors.Join(faults, err)
			}
			ended, done = true, nil
			continue
		case <-s.stop:
			ask(shutdown)
		case <-s.tick.C:
		}
		switch {
		case !ended && s.cancelAsked():
			ask(canceled)
		case !ended && bound > 0 && time.Since(began) > bound:
			ask(overdue)
		}
		if !asked.IsZero() && time.Since(asked) > s.order.Grace {
			if err := s.state.Session.signal(unix.SIGKILL); err != nil && faults == nil {
				faults = err
			}
		}
	}
}

func (s *shim) cancelAsked() bool {
	_, err := os.Stat(s.dir.cancel())
	return err == nil
}

// end writes the final state, again and again while the disk is full; a shim that is killed meanwhile leaves a lost try.
func (s *shim) end(phase lifecycle.JobPhase, code int, reason string) error {
	s.state.Phase, s.state.ExitCode, s.state.Reason, s.state.Ended = phase, code, reason, time.Now().UTC()
	for {
		err := writeJSON(s.dir.state(), s.state)
		if err == nil {
			return nil
		}
		fmt.Fprintln(os.Stderr, "job-shim: write the final state, trying again:", err)
		select {
		case <-s.stop:
			return err
		case <-time.After(time.Second):
		}
	}
}

// exitCode is the job's exit code, or 128 and the signal's number as shells have it.
func exitCode(ended *os.ProcessState) int {
	if ended == nil {
		return -1
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return ended.ExitCode()
}

// judge turns how a job ended into its phase and a reason for people. A job that finished whole although it
// was being stopped has succeeded: its work is not thrown away.
func judge(code int, cause stopCause, missing []string) (lifecycle.JobPhase, string) {
	switch {
	case code == lifecycle.JobExitDone && len(missing) == 0:
		return lifecycle.JobSucceeded, ""
	case cause == canceled:
		return lifecycle.JobCanceled, fmt.Sprintf("canceled; exit %d", code)
	case code == lifecycle.JobExitRejected:
		return lifecycle.JobRejected, "the job says that its spec is wrong; its log says why"
	case code == lifecycle.JobExitRetry && cause == overdue:
		return lifecycle.JobRetry, "stopped at its time bound; it can go on from its last checkpoint"
	case code == lifecycle.JobExitRetry:
		return lifecycle.JobRetry, "the job asks to be tried again from its last checkpoint"
	case cause == shutdown:
		return lifecycle.JobRetry, fmt.Sprintf("the shim was asked to end; exit %d", code)
	case cause == overdue:
		return lifecycle.JobFailed, fmt.Sprintf("ran past its time bound; exit %d", code)
	case code == lifecycle.JobExitDone:
		return lifecycle.JobFailed, "exit 0, but these outputs are missing or empty: " + strings.Join(missing, ", ")
	default:
		return lifecycle.JobFailed, fmt.Sprintf("exit %d", code)
	}
}

// missingOutputs names the declared outputs that are not a folder with something in it.
func missingOutputs(dir string, declared map[string]lifecycle.ArtifactKind) ([]string, error) {
	var missing []string
	for name := range declared {
		entries, err := os.ReadDir(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return nil, fmt.Errorf("look at output %s: %w", name, err)
		}
		if len(entries) == 0 {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, nil
}
