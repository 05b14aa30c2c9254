package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Programs is the folder with initdb and postgres.
type Programs string

// ErrNoPrograms means that no PostgreSQL server is installed where Find looks.
var ErrNoPrograms = errors.New("no PostgreSQL server programs found (looked at REFIT_POSTGRES_BIN, /usr/lib/postgresql/*/bin and pg_config --bindir)")

// Find looks for the server's programs: the environment's REFIT_POSTGRES_BIN alone if it is set; else the version
// that the cluster in dir was made with, 15, the newest under /usr/lib/postgresql, and where pg_config points.
func Find(ctx context.Context, dir string, getenv func(string) string) (Programs, error) {
	if set := getenv("REFIT_POSTGRES_BIN"); set != "" {
		if !Programs(set).complete() {
			return "", fmt.Errorf("REFIT_POSTGRES_BIN is %s, which lacks initdb or postgres", set)
		}
		return Programs(set), nil
	}
	var candidates []string
	if version, err := os.ReadFile(filepath.Join(dir, "PG_VERSION")); err == nil {
		candidates = append(candidates, debian(strings.TrimSpace(string(version))))
	}
	candidates = append(candidates, debian("15"))
	found, err := filepath.Glob(debian("*"))
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL versions: %w", err)
	}
	sort.Slice(found, func(i, j int) bool { return major(found[i]) > major(found[j]) })
	candidates = append(candidates, found...)
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(out)))
	}
	for _, c := range candidates {
		if Programs(c).complete() {
			return Programs(c), nil
		}
	}
	return "", ErrNoPrograms
}

func debian(version string) string { return "/usr/lib/postgresql/" + version + "/bin" }

func major(bin string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	if err != nil {
		return 0
	}
	return n
}

func (p Programs) complete() bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(string(p), name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

func (p Programs) path(name string) string { return filepath.Join(string(p), name) }

// noMainCluster keeps Debian's package from creating and starting a cluster "main" on port 5432.
const noMainCluster = "/etc/postgresql-common/createcluster.d/refit.conf"

// Install installs Debian's package postgresql-15 with apt-get, as root or through sudo, and says on out what it
// does. No cluster is created: the package is told so by a file that is removed again afterwards.
func Install(ctx context.Context, out io.Writer) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%w, and there is no apt-get to install them with: install PostgreSQL 15 and set REFIT_POSTGRES_BIN to the folder of initdb and postgres", ErrNoPrograms)
	}
	var sudo []string
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("sudo"); err != nil {
			return fmt.Errorf("%w; install them as root: apt-get install postgresql-15 (there is no sudo here)", ErrNoPrograms)
		}
		sudo = []string{"sudo"}
	}
	do := func(ctx context.Context, stdin string, args ...string) error {
		args = append(append([]string{}, sudo...), args...)
		fmt.Fprintf(out, "running: %s\n", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = out, out
		if stdin != "" {
			cmd.Stdin = strings.NewReader(stdin)
		} else {
			cmd.Stdin = os.Stdin // sudo may ask
		}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run %s: %w", strings.Join(args, " "), err)
		}
		return nil
	}
	fmt.Fprintln(out, "PostgreSQL's server programs are not installed; installing the package postgresql-15 (no cluster is created)")
	if _, err := os.Stat(noMainCluster); errors.Is(err, fs.ErrNotExist) {
		if err := do(ctx, "", "mkdir", "-p", filepath.Dir(noMainCluster)); err != nil {
			return err
		}
		if err := do(ctx, "create_main_cluster = false\n", "tee", noMainCluster); err != nil {
			return err
		}
		defer do(context.WithoutCancel(ctx), "", "rm", "-f", noMainCluster) // later versions of the package are not our business
	}
	if err := do(ctx, "", "apt-get", "update"); err != nil {
		return err
	}
	return do(ctx, "", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends", "postgresql-15")
}
