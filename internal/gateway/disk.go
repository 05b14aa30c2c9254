package gateway

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// savedVersion is the form of the file that saved describes.
const savedVersion = 1

// saved is what a gateway needs to serve the last stable release without the registry. It holds no canary, no
// band key and no secret.
type saved struct {
	Version   int                  `json:"version"`
	Service   lifecycle.Service    `json:"service"`
	Route     lifecycle.Route      `json:"route"`
	Release   lifecycle.Release    `json:"release"`
	Endpoints []lifecycle.Endpoint `json:"endpoints"`
}

// shelf keeps one file a service in a folder.
type shelf struct{ dir string }

func (s shelf) path(service string) string { return filepath.Join(s.dir, "stable-"+service+".json") }

// services names the services of which a file is kept.
func (s shelf) services() []string {
	files, err := filepath.Glob(s.path("*"))
	if err != nil {
		return nil
	}
	var names []string
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "stable-"), ".json")
		if lifecycle.CheckServiceName(name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// put replaces the file in one step, so that a crash leaves the old one or the new one.
func (s shelf) put(state saved) error {
	state.Version = savedVersion
	state.Route = stableOnly(state.Route)
	raw, err := json.Marshal(state)
	if err != nil {
		return lifecycle.Wrap(err, "encode the last stable route")
	}
	return lifecycle.Wrap(replaceFile(s.path(state.Service.Name), raw), "keep the last stable route of %s", state.Service.Name)
}

// get reads a service's file. A missing one is NotFound; one that does not fit itself is Corrupt, because
// serving something else than the last stable release is worse than serving nothing.
func (s shelf) get(service string) (saved, error) {
	raw, err := os.ReadFile(s.path(service))
	if errors.Is(err, os.ErrNotExist) {
		return saved{}, lifecycle.Errorf(lifecycle.NotFound, "no stable route of %s is kept", service)
	}
	if err != nil {
		return saved{}, lifecycle.Errorf(lifecycle.Unavailable, "read the last stable route: %w", err)
	}
	var state saved
	if err := json.Unmarshal(raw, &state); err != nil {
		return saved{}, lifecycle.Errorf(lifecycle.Corrupt, "the last stable route of %s: %w", service, err)
	}
	if state.Version != savedVersion || state.Service.Name != service || state.Route.Service != service ||
		state.Release.ID() != state.Route.Stable {
		return saved{}, lifecycle.Errorf(lifecycle.Corrupt, "the last stable route of %s does not fit its release", service)
	}
	state.Route = stableOnly(state.Route)
	return state, nil
}

// stableOnly leaves out everything of a route that must not outlive its controller.
func stableOnly(r lifecycle.Route) lifecycle.Route {
	r.Canary, r.Share, r.Rollout, r.Step, r.Lease, r.BandKey = "", 0, "", 0, 0, nil
	return r
}

// replaceFile writes a file of mode 0600 and renames it into place.
func replaceFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // fails once it was renamed, which is meant
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
