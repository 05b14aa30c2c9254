package compute

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootID names the machine's current boot; process IDs mean nothing beyond it.
func bootID() (string, error) {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot ID: %w", err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// processStat is what /proc says of a process.
type processStat struct {
	state   byte
	session int
	start   uint64 // clock ticks since boot
}

func statOf(pid int) (processStat, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return processStat{}, err
	}
	return parseStat(raw)
}

// parseStat reads /proc/PID/stat (proc(5)). The second field is the program's name in parentheses and may hold
// anything, so fields are counted from the last parenthesis.
func parseStat(raw []byte) (processStat, error) {
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return processStat{}, errors.New("a process's stat has too few fields")
	}
	session, err := strconv.Atoi(string(fields[3]))
	if err != nil {
		return processStat{}, fmt.Errorf("session of a process: %w", err)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return processStat{}, fmt.Errorf("start of a process: %w", err)
	}
	return processStat{state: fields[0][0], session: session, start: start}, nil
}

// session is the shim's session: the shim leads it, the job's processes are its members. As long as a member
// lives, the kernel gives its number to no other process.
type session struct {
	Leader int    `json:"leader"` // process ID of the shim
	Start  uint64 `json:"start"`  // of the shim, in clock ticks since boot
	Boot   string `json:"boot"`
}

func ownSession() (session, error) {
	boot, err := bootID()
	if err != nil {
		return session{}, err
	}
	own, err := statOf(os.Getpid())
	return session{Leader: os.Getpid(), Start: own.start, Boot: boot}, err
}

// members gives the living processes of the session other than its leader.
func (s session) members() ([]int, error) {
	if boot, err := bootID(); err != nil || boot != s.Boot {
		return nil, err // another boot: none of them can live
	}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var out []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil || pid == s.Leader {
			continue
		}
		stat, err := statOf(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // ended while we looked
		}
		if err != nil {
			return nil, fmt.Errorf("look at process %d: %w", pid, err)
		}
		if stat.session == s.Leader && stat.start >= s.Start && stat.state != 'Z' && stat.state != 'X' {
			out = append(out, pid)
		}
	}
	return out, nil
}

// signal sends a signal to every member.
func (s session) signal(sig unix.Signal) error {
	members, err := s.members()
	return errors.Join(err, kill(members, sig))
}

// sweep kills what a dead shim left of a job and returns when none of it lives, or with an error after the bound.
// With its leader gone the session's number may have been given away since, so only processes that carry the job's
// own mark in their environment are touched.
func (s session) sweep(mark string, bound time.Duration) error {
	deadline := time.Now().Add(bound)
	for {
		members, err := s.members()
		if err != nil {
			return err
		}
		orphans := slices.DeleteFunc(members, func(pid int) bool { return !carries(pid, mark) })
		if len(orphans) == 0 {
			return nil
		}
		if err := kill(orphans, unix.SIGKILL); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d processes of session %d do not end", len(orphans), s.Leader)
		}
		time.Sleep(lockPoll)
	}
}

// carries says whether a process was started with the variable NAME=VALUE. One that cannot be read does not.
func carries(pid int, variable string) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, raw...), []byte("\x00"+variable+"\x00"))
}

func kill(pids []int, sig unix.Signal) error {
	var faults error
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			faults = errors.Join(faults, fmt.Errorf("signal process %d: %w", pid, err))
		}
	}
	return faults
}
