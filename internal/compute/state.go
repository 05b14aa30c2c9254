package compute

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// state is what a shim writes about its try.
type state struct {
	Phase    lifecycle.JobPhase `json:"phase"`
	ExitCode int                `json:"exit_code"`
	Reason   string             `json:"reason,omitempty"`
	Session  session            `json:"session"`
	Started  time.Time          `json:"started,omitzero"`
	Ended    time.Time          `json:"ended,omitzero"`
}

// order is what Submit leaves for the shim. Settings of the engine that shape a try stand in it, so that a shim
// started again does the same.
type order struct {
	Run   Run           `json:"run"`
	Slots int           `json:"slots"`
	Grace time.Duration `json:"grace"`
}

// tryDir is the folder of one try: ROOT/runs/HASH/tries/N.
type tryDir string

func runDir(root, key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(root, "runs", hex.EncodeToString(sum[:16]))
}

func dirOfTry(root, key string, try int) tryDir {
	return tryDir(filepath.Join(runDir(root, key), "tries", strconv.Itoa(try)))
}

func (d tryDir) path(name string) string { return filepath.Join(string(d), name) }
func (d tryDir) order() string           { return d.path("order.json") }
func (d tryDir) state() string           { return d.path("state.json") }
func (d tryDir) spec() string            { return d.path("spec.json") }
func (d tryDir) shimLock() string        { return d.path("shim.lock") }
func (d tryDir) shimLog() string         { return d.path("shim.log") }
func (d tryDir) cancel() string          { return d.path("cancel") }
func (d tryDir) log() string             { return d.path("log") }
func (d tryDir) progress() string        { return d.path("progress.jsonl") }
func (d tryDir) inputs() string          { return d.path("inputs") }
func (d tryDir) outputs() string         { return d.path("outputs") }
func (d tryDir) home() string            { return d.path("home") }
func (d tryDir) run() string             { return filepath.Dir(filepath.Dir(string(d))) }
func (d tryDir) checkpoints() string     { return filepath.Join(d.run(), "checkpoints") }
func (d tryDir) root() string            { return filepath.Dir(filepath.Dir(d.run())) }

// mark is the variable that every process of the try's job, and of no other, has in its environment.
func (d tryDir) mark() string { return "REFIT_PROGRESS=" + d.progress() }

func (d tryDir) readState() (state, error) {
	var st state
	return st, readJSON(d.state(), &st)
}

func (d tryDir) readOrder() (order, error) {
	var o order
	return o, readJSON(d.order(), &o)
}

func readJSON(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file whole and durably: a reader sees the old or the new one.
func writeJSON(path string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".writing-")
	if err != nil {
		return err
	}
	_, err = temp.Write(raw)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(temp.Name()))
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
