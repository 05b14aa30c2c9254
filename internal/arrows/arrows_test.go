package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/refitml/refit"

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestEveryArrowWasDecided(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, fault := range faults(p, table) {
			t.Error(fault)
		}
	}
}

func TestFaultsNamesTheBrokenArrow(t *testing.T) {
	t.Parallel()
	rows := map[string]row{"workflows": {rooms: []string{"internal/steps"}, never: []string{pgx}}}
	for name, tc := range map[string]struct {
		p    listed
		want string
	}{
		"a room that was not decided": {listed{ImportPath: module + "/workflows", Imports: []string{module + "/internal/stats"}},
			"workflows imports internal/stats"},
		"a module that was not decided": {listed{ImportPath: module + "/workflows", Imports: []string{"github.com/spf13/viper"}},
			"workflows imports github.com/spf13/viper"},
		"a thing reached by a long way": {listed{ImportPath: module + "/workflows", Deps: []string{pgx + "/pgxpool"}},
			"workflows reaches " + pgx},
		"a package without a row": {listed{ImportPath: module + "/internal/utils"}, "internal/utils has no row"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, strings.Join(faults(tc.p, rows), "\n"), tc.want)
		})
	}
	require.Empty(t, faults(listed{ImportPath: module + "/workflows", Imports: []string{"fmt", module + "/internal/steps"}}, rows))
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	decoder := json.NewDecoder(bytes.NewReader(out))
	var all []listed
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		all = append(all, p)
	}
	require.NotEmpty(t, all)
	return all
}

func faults(p listed, table map[string]row) []string {
	name := strings.TrimPrefix(p.ImportPath, module+"/")
	r, ok := table[name]
	if !ok {
		return []string{name + " has no row in the table of arrows; decide who it is and whom it may know"}
	}
	var out []string
	for _, imported := range p.Imports {
		room, own := strings.CutPrefix(imported, module+"/")
		switch {
		case own && !slices.Contains(r.rooms, room):
			out = append(out, name+" imports "+room+", which its row does not allow")
		case !own && strings.Contains(strings.Split(imported, "/")[0], ".") && !slices.ContainsFunc(r.modules, within(imported)):
			out = append(out, name+" imports "+imported+", which its row does not allow")
		}
	}
	for _, forbidden := range r.never {
		if i := slices.IndexFunc(p.Deps, func(d string) bool { return within(d)(forbidden) }); i >= 0 {
			out = append(out, name+" reaches "+forbidden+" (by "+p.Deps[i]+"), which its row forbids")
		}
	}
	return out
}

// within says of a path's beginning whether the package lies in it. Standard packages are meant exactly.
func within(path string) func(string) bool {
	return func(beginning string) bool {
		if path == beginning {
			return true
		}
		return strings.Contains(beginning, ".") && strings.HasPrefix(path, beginning+"/")
	}
}
