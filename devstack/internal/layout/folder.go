package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const marker = ".refit-devstack"

// Folder is the absolute path of a stack's data folder.
type Folder string

// Path returns the absolute path of name in the folder.
func (f Folder) Path(name ...string) string {
	return filepath.Join(append([]string{string(f)}, name...)...)
}

// Choose says which data folder a command means: data if given, else the environment's REFIT_DATA, else one
// that belongs to the checkout around from. For root that is /var/lib/refit/<hash of the checkout's path>,
// because the cluster runs as user postgres, who may not be able to reach the checkout; for everybody else it is
// .refit in the checkout.
func Choose(data, checkout string, getenv func(string) string, uid int) (Folder, error) {
	if data == "" {
		data = getenv("REFIT_DATA")
	}
	if data != "" {
		abs, err := filepath.Abs(data)
		if err != nil {
			return "", fmt.Errorf("make %s absolute: %w", data, err)
		}
		return Folder(abs), nil
	}
	root, err := findCheckout(checkout)
	if err != nil {
		return "", err
	}
	if uid != 0 {
		return Folder(filepath.Join(root, ".refit")), nil
	}
	sum := sha256.Sum256([]byte(root))
	return Folder(filepath.Join("/var/lib/refit", hex.EncodeToString(sum[:6]))), nil
}

// findCheckout is the nearest folder at or above from that holds Refit's root module.
func findCheckout(from string) (string, error) {
	abs, err := filepath.Abs(from)
	if err != nil {
		return "", fmt.Errorf("make %s absolute: %w", from, err)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real // one checkout reached over two paths is one stack
	}
	for dir := abs; ; dir = filepath.Dir(dir) {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil {
			first, _, _ := strings.Cut(string(mod), "\n")
			if strings.TrimSpace(first) == "module github.com/refitml/refit" {
				return dir, nil
			}
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no checkout of refit at or above %s: give --checkout or --data, or set REFIT_DATA", abs)
		}
	}
}

// Make creates the folder and marks it. A folder that is there, holds something and has no mark belongs to
// somebody else and is refused.
func (f Folder) Make() error {
	if f.Marked() {
		return nil
	}
	entries, err := os.ReadDir(string(f))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into data folder: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s holds files that devstack did not make: give another folder", f)
	}
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	// Others may pass through (user postgres has to) but not list; what is secret has mode 0600 itself.
	if err := os.Chmod(string(f), 0o711); err != nil {
		return fmt.Errorf("set mode of data folder: %w", err)
	}
	if err := os.WriteFile(f.Path(marker), []byte("made by refit's devstack; removed by `devstack clean`\n"), 0o644); err != nil {
		return fmt.Errorf("mark data folder: %w", err)
	}
	return nil
}

// Marked says whether devstack made the folder.
func (f Folder) Marked() bool {
	_, err := os.Stat(f.Path(marker))
	return err == nil
}

// Remove deletes the folder and all data in it. A folder without the mark is refused; one that is not there is
// no fault.
func (f Folder) Remove() error {
	if _, err := os.Stat(string(f)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !f.Marked() {
		return fmt.Errorf("%s was not made by devstack and is left alone", f)
	}
	if err := os.RemoveAll(string(f)); err != nil {
		return fmt.Errorf("remove data folder: %w", err)
	}
	return nil
}

// ErrLocked means that another process runs the stack of this folder.
var ErrLocked = errors.New("a stack runs on this data folder")

// Lock takes the folder's lock until the file is closed or the process ends, in whatever way. The process ID
// is written into the file for those who ask.
func (f Folder) Lock() (*os.File, error) {
	file, err := os.OpenFile(f.Path("lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	for try := 0; errors.Is(err, syscall.EWOULDBLOCK) && try < 10; try++ {
		time.Sleep(50 * time.Millisecond) // somebody who asks (Holder) has it for a moment
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	if err := file.Truncate(0); err == nil {
		_, err = fmt.Fprintf(file, "%d\n", os.Getpid())
		if err == nil {
			return file, nil
		}
	}
	file.Close()
	return nil, fmt.Errorf("write process ID into lock file: %w", err)
}

// Holder is the process ID of the process that runs the stack, or 0 when none does. The lock decides, not the
// file's text, which outlives a killed process.
func (f Folder) Holder() (int, error) {
	file, err := os.Open(f.Path("lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open lock file: %w", err)
	}
	defer file.Close()
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return 0, nil
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return 0, fmt.Errorf("ask for lock: %w", err)
	}
	var pid int
	if _, err := fmt.Fscan(file, &pid); err != nil {
		return 0, fmt.Errorf("read process ID from lock file: %w", err)
	}
	return pid, nil
}

// readJSON reads a file into v; a file that is not there leaves v alone and is no fault.
func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file at path in one step, mode 0600.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // CreateTemp gives mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(append(raw, '\n'))
	if err == nil {
		err = temp.Sync()
	}
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
