package compute

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/refitml/refit/internal/lifecycle"
)

// specFile is what a job finds under REFIT_SPEC.
func specFile(spec lifecycle.JobSpec) any {
	parameters := spec.Parameters
	if len(parameters) == 0 {
		parameters = json.RawMessage("{}")
	}
	return map[string]json.RawMessage{"parameters": parameters}
}

// sameSpec compares by meaning: parameters that differ in white space or order of keys are the same.
func sameSpec(a, b lifecycle.JobSpec) bool {
	one, errOne := meaning(a)
	two, errTwo := meaning(b)
	return errOne == nil && errTwo == nil && bytes.Equal(one, two)
}

func meaning(spec lifecycle.JobSpec) ([]byte, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var generic any
	if err := decoder.Decode(&generic); err != nil {
		return nil, err
	}
	return json.Marshal(generic) // sorts keys
}

// startShim starts a shim and returns when it has said that the try is queued. If it says nothing but the try was
// begun, another submitter's shim was faster, which is as good.
func (l *Local) startShim(ctx context.Context, dir tryDir) error {
	log, err := os.OpenFile(dir.shimLog(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	listen, speak, err := os.Pipe()
	if err != nil {
		return err
	}
	defer listen.Close()
	shim := exec.Command(l.cfg.Shim[0], append(l.cfg.Shim[1:len(l.cfg.Shim):len(l.cfg.Shim)], string(dir))...)
	shim.Env, shim.Dir = l.environment(dir), string(dir)
	shim.Stdout, shim.Stderr = log, log
	shim.ExtraFiles = []*os.File{speak}
	shim.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	err = shim.Start()
	if err = errors.Join(err, speak.Close()); err != nil {
		return fmt.Errorf("start the shim: %w", err)
	}
	go func() { _ = shim.Wait() }() // only so that it leaves no zombie; what it has to say stands in the state file
	stop := context.AfterFunc(ctx, func() { _ = listen.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := listen.SetReadDeadline(time.Now().Add(shimStart)); err != nil {
		return err
	}
	word, err := io.ReadAll(io.LimitReader(listen, int64(len(readyWord))))
	if string(word) == readyWord {
		return nil
	}
	if begun, begunErr := dir.begun(); begunErr == nil && begun {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	said, _, readErr := readTail(dir.shimLog(), 500)
	return errors.Join(fmt.Errorf("the shim did not begin and said %q", bytes.TrimSpace(said)), err, readErr)
}
