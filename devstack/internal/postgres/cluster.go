package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Config describes a cluster.
type Config struct {
	Programs Programs
	Dir      string // the cluster's folder, absolute; made if it is missing
	LogFile  string // what the server says is appended here
	Port     int
	Password string // of the superuser postgres, used when the cluster is made
	NoFsync  bool   // do not wait for the disk: faster tests, the newest commits lost with the machine or a killed PostgreSQL
	Log      *slog.Logger
}

// Cluster is a private cluster. It may be running or not.
type Cluster struct {
	config Config
	run    *syscall.Credential // of the server's processes; nil for the caller's own
}

// Open prepares a cluster: it makes the folder and runs initdb the first time. It starts nothing.
func Open(ctx context.Context, c Config) (*Cluster, error) {
	cluster := &Cluster{config: c}
	if os.Geteuid() == 0 {
		credential, err := serverUser()
		if err != nil {
			return nil, err
		}
		cluster.run = credential
		if err := reachable(filepath.Dir(c.Dir)); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "PG_VERSION")); err == nil {
		return cluster, nil
	}
	return cluster, cluster.initialize(ctx)
}

// serverUser is the user that runs the server when devstack runs as root.
func serverUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find the user postgres, whom the package postgresql-15 makes and who runs the server for root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read user ID of postgres: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read group ID of postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// reachable says whether every user may pass through the folder and all above it.
func reachable(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("look at %s: %w", dir, err)
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("user postgres, who runs the server for root, cannot pass %s (mode %04o): give --data or REFIT_DATA outside of it", dir, info.Mode().Perm())
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// initialize makes the cluster beside its place and moves it there when it is whole, so that an interrupted
// initdb leaves nothing that looks like a cluster.
func (c *Cluster) initialize(ctx context.Context) error {
	staging := c.config.Dir + ".new"
	for _, left := range []string{staging, c.config.Dir} {
		if err := os.RemoveAll(left); err != nil {
			return fmt.Errorf("clear what an earlier start left: %w", err)
		}
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return fmt.Errorf("create cluster folder: %w", err)
	}
	password := filepath.Join(filepath.Dir(staging), "postgres.pw")
	defer os.Remove(password)
	if err := os.WriteFile(password, []byte(c.config.Password+"\n"), 0o600); err != nil {
		return fmt.Errorf("hand over password: %w", err)
	}
	if c.run != nil {
		for _, path := range []string{staging, password} {
			if err := os.Chown(path, int(c.run.Uid), int(c.run.Gid)); err != nil {
				return fmt.Errorf("give %s to user postgres: %w", path, err)
			}
		}
	}
	cmd := exec.CommandContext(ctx, c.config.Programs.path("initdb"), "--pgdata", staging, "--username", "postgres",
		"--pwfile", password, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.run}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w: %s", err, out)
	}
	if err := os.Rename(staging, c.config.Dir); err != nil {
		return fmt.Errorf("put cluster into place: %w", err)
	}
	return nil
}

// Running returns the port of the cluster's living postmaster, or 0.
func Running(dir string) int {
	file, alive := postmaster(dir)
	if !alive {
		return 0
	}
	return file.Port
}

// postmaster reads postmaster.pid; alive says that the process it names works in this cluster's folder.
func postmaster(dir string) (file pidFile, alive bool) {
	raw, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return pidFile{}, false
	}
	file, err = parsePIDFile(raw)
	if err != nil {
		return pidFile{}, false
	}
	return file, processes(dir)[file.PID]
}

// Start makes sure that the postmaster runs and accepts connections: it adopts one that is there, and starts
// one else. adopted says which it was.
func (c *Cluster) Start(ctx context.Context) (adopted bool, err error) {
	if file, alive := postmaster(c.config.Dir); alive {
		c.config.Log.Info("PostgreSQL runs already", "pid", file.PID, "port", file.Port)
		return true, c.awaitReady(ctx)
	}
	// Backends of a postmaster that was killed end by themselves when they notice.
	if err := await(ctx, time.Minute, func() bool { return len(processes(c.config.Dir)) == 0 }); err != nil {
		return false, fmt.Errorf("wait for server processes of a killed postmaster to end: %w", err)
	}
	// With none of them left the file is stale, and its number may meanwhile be a stranger's, before whom
	// PostgreSQL would give up.
	if err := os.Remove(filepath.Join(c.config.Dir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove stale postmaster.pid: %w", err)
	}
	if err := c.launch(); err != nil {
		return false, err
	}
	return false, c.awaitReady(ctx)
}

func (c *Cluster) launch() error {
	log, err := os.OpenFile(c.config.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of PostgreSQL: %w", err)
	}
	defer log.Close()
	args := []string{"-D", c.config.Dir, "-p", strconv.Itoa(c.config.Port)}
	for _, setting := range c.settings() {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(c.config.Programs.path("postgres"), args...)
	cmd.Dir = c.config.Dir
	if c.run != nil {
		cmd.Dir = "/" // postgres changes to its folder itself
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.run, Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	go cmd.Wait() // so that it does not stay as a zombie; who waits for its end looks at processes
	return nil
}

// settings suit a small machine on which other things run too.
func (c *Cluster) settings() []string {
	settings := []string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200",
		"shared_buffers=64MB", "work_mem=4MB", "maintenance_work_mem=32MB", "max_wal_size=512MB",
		"password_encryption=scram-sha-256", "timezone=UTC", "log_timezone=UTC",
		"log_min_messages=warning", "log_checkpoints=off", "jit=off", "max_worker_processes=4", "autovacuum_max_workers=2",
	}
	if c.config.NoFsync {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	return settings
}

func (c *Cluster) awaitReady(ctx context.Context) error {
	started := time.Now()
	var file pidFile
	var alive bool
	err := await(ctx, 3*time.Minute, func() bool {
		file, alive = postmaster(c.config.Dir)
		gone := !alive && time.Since(started) > 10*time.Second && len(processes(c.config.Dir)) == 0
		return gone || alive && file.Ready
	})
	switch {
	case err != nil:
		return fmt.Errorf("wait for PostgreSQL to accept connections, see %s: %w", c.config.LogFile, err)
	case !alive:
		return fmt.Errorf("PostgreSQL ended while it started, see %s", c.config.LogFile)
	case file.Port != c.config.Port:
		return fmt.Errorf("PostgreSQL listens on port %d instead of %d", file.Port, c.config.Port)
	}
	return nil
}

// Alive says whether the postmaster runs.
func (c *Cluster) Alive() bool {
	_, alive := postmaster(c.config.Dir)
	return alive
}

// Stop stops the postmaster of the cluster in dir in order (its fast shutdown: sessions end, a checkpoint is
// written) and waits until all its processes are gone. A cluster that does not run is no fault.
func Stop(ctx context.Context, dir string) error {
	file, alive := postmaster(dir)
	if alive {
		if err := syscall.Kill(file.PID, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("ask PostgreSQL to stop: %w", err)
		}
	}
	if err := await(ctx, 2*time.Minute, func() bool { return len(processes(dir)) == 0 }); err != nil {
		return fmt.Errorf("wait for PostgreSQL to stop: %w", err)
	}
	return nil
}

// await asks done every 50 ms until it says yes, the context ends, or the time is over.
func await(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
