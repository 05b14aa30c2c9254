package postgres

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pidFile is what a postmaster writes into postmaster.pid, as far as it is used here.
type pidFile struct {
	PID   int
	Dir   string // its data folder
	Port  int    // 0 while it is not known yet
	Ready bool   // it accepts connections
}

// parsePIDFile reads the lines of postmaster.pid (PostgreSQL 10 and later): process ID, data folder, start
// time, port, socket folder, listen address, shared memory key, status. The later ones are missing while the
// postmaster starts.
func parsePIDFile(raw []byte) (pidFile, error) {
	lines := strings.Split(string(bytes.TrimRight(raw, "\n")), "\n")
	if len(lines) < 2 {
		return pidFile{}, fmt.Errorf("postmaster.pid has %d lines instead of 2 to 8", len(lines))
	}
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid < 1 {
		return pidFile{}, fmt.Errorf("postmaster.pid begins with %q instead of a process ID", lines[0])
	}
	file := pidFile{PID: pid, Dir: lines[1]}
	if len(lines) > 3 {
		file.Port, err = strconv.Atoi(strings.TrimSpace(lines[3]))
		if err != nil || file.Port < 1 || file.Port > 65535 {
			return pidFile{}, fmt.Errorf("postmaster.pid names %q as port", lines[3])
		}
	}
	file.Ready = len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready"
	return file, nil
}

// processes are the IDs of the living processes that work in the cluster's folder: the postmaster and its
// backends change to it. It tells a postmaster from a stranger that was given its number later.
func processes(dir string) map[int]bool {
	found := map[int]bool{}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return found
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == dir {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
				found[pid] = true // a zombie has no cwd and so is not among them
			}
		}
	}
	return found
}
