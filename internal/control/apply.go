package control

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// ApplyInput declares a service.
type ApplyInput struct {
	Service lifecycle.Service `json:"service"`
	DryRun  bool              `json:"dry_run,omitempty"` // check and show, change nothing
}

// ApplyResult says what changed, or would.
type ApplyResult struct {
	Version   registry.ServiceVersion `json:"version"` // of a dry run: the one that is there
	Changes   []string                `json:"changes"` // against the version before, defaults filled in
	Schedules []ScheduleChange        `json:"schedules"`
	Warning   string                  `json:"warning,omitempty"` // what is not reconciled; apply again
}

// Apply stores a declaration and reconciles its schedules. Applying the same again changes nothing.
var Apply = UseCase[ApplyInput, ApplyResult]{"apply", Admin, (*Control).apply}

func (c *Control) apply(ctx context.Context, caller Caller, in ApplyInput) (ApplyResult, error) {
	service := in.Service.WithDefaults()
	if err := service.CheckZones(func(name string) error { _, err := time.LoadLocation(name); return err }); err != nil {
		return ApplyResult{}, err
	}
	before, err := c.cfg.Registry.Service(ctx, service.Name)
	fresh := lifecycle.Is(err, lifecycle.NotFound)
	if err != nil && !fresh {
		return ApplyResult{}, err
	}
	var out ApplyResult
	if out.Changes, err = changes(before, service, fresh); err != nil {
		return ApplyResult{}, err
	}
	if !in.DryRun {
		out.Version, err = c.cfg.Registry.ApplyService(ctx, service, caller.actor())
	} else if !fresh {
		out.Version, err = c.cfg.Registry.ServiceVersion(ctx, service.Name)
	}
	if err != nil {
		return ApplyResult{}, err
	}
	if out.Schedules, err = c.reconcile(ctx, service, caller.actor(), in.DryRun); err != nil {
		out.Warning = "schedules are not reconciled: " + err.Error() + "; apply again"
	}
	return out, nil
}

// changes names what differs between two declarations, by path: "rollout.steps[0].share_bp: 100 -> 500".
func changes(before, after lifecycle.Service, fresh bool) ([]string, error) {
	if fresh {
		return []string{"new service"}, nil
	}
	x, err := treeOf(before)
	if err != nil {
		return nil, err
	}
	y, err := treeOf(after)
	if err != nil {
		return nil, err
	}
	out := []string{}
	compare("", x, y, &out)
	return out, nil
}

// treeOf gives a declaration as the registry would give it back: there an empty list and none are the same.
func treeOf(service lifecycle.Service) (any, error) {
	raw, err := json.Marshal(service)
	if err != nil {
		return nil, err
	}
	var stored lifecycle.Service
	if err := json.Unmarshal(raw, &stored); err != nil {
		return nil, err
	}
	if raw, err = json.Marshal(stored); err != nil {
		return nil, err
	}
	var tree any
	err = json.Unmarshal(raw, &tree)
	return tree, err
}

func compare(path string, before, after any, out *[]string) {
	x, isObject := before.(map[string]any)
	y, both := after.(map[string]any)
	if isObject && both {
		names := maps.Clone(x)
		maps.Copy(names, y)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			at := name
			if path != "" {
				at = path + "." + name
			}
			compare(at, x[name], y[name], out)
		}
		return
	}
	p, isList := before.([]any)
	q, both := after.([]any)
	if isList && both {
		if named, ok := byName(p, q); ok {
			compare(path, named[0], named[1], out)
			return
		}
		if len(p) == len(q) {
			for i := range p {
				compare(fmt.Sprintf("%s[%d]", path, i), p[i], q[i], out)
			}
			return
		}
	}
	if a, b := inShort(before), inShort(after); a != b {
		*out = append(*out, path+": "+a+" -> "+b)
	}
}

// byName turns two lists whose elements have names into objects, so that one more or less does not shift the others.
func byName(lists ...[]any) ([]any, bool) {
	var out []any
	for _, list := range lists {
		named := map[string]any{}
		for _, element := range list {
			object, _ := element.(map[string]any)
			name, ok := object["name"].(string)
			if !ok {
				name, ok = object["loop"].(string)
			}
			if !ok || named[name] != nil {
				return nil, false
			}
			named[name] = element
		}
		out = append(out, named)
	}
	return out, true
}

// inShort is a value for people; two values are the same exactly when their whole text is.
func inShort(value any) string {
	if value == nil {
		return "none"
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	const most = 60
	if len(raw) > most {
		return string(raw[:most]) + "... (" + lifecycle.DigestOf(raw).Short() + ")"
	}
	return string(raw)
}
