package control

import (
	"encoding/json"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// scoped is an input that concerns some services and no others: a role in each of them is enough. What concerns none by
// name, and inputs that do not say, ask for a role in all services.
type scoped interface{ concerns() []string }

// concerns names the services; ofAny says that the answer is made of what the caller may see of each.
func concerns(in any) (names []string, ofAny bool) {
	if _, nothing := in.(struct{}); nothing {
		return nil, true
	}
	if s, ok := in.(scoped); ok {
		names = s.concerns()
	}
	return names, false
}

// allow refuses a caller who lacks the role where the input asks for it.
func allow(caller Caller, useCase string, needed Role, in any) error {
	names, ofAny := concerns(in)
	switch {
	case ofAny && caller.anywhere(needed):
		return nil
	case len(names) == 0 && !caller.Role.Includes(needed):
		return lifecycle.Errorf(lifecycle.Refused, "%s: needs role %s; %s has role %q", useCase, needed, caller.Name, caller.Role)
	}
	for _, name := range names {
		if have := caller.RoleIn(name); !have.Includes(needed) {
			return lifecycle.Errorf(lifecycle.Refused, "%s: needs role %s; %s has role %q in service %q", useCase, needed, caller.Name, have, name)
		}
	}
	return nil
}

// RoleIn gives the caller's role in a service: the greater one of that in all services and that in this one.
func (c Caller) RoleIn(service string) Role {
	if there := c.Services[service]; there.Includes(Viewer) && !c.Role.Includes(there) {
		return there
	}
	return c.Role
}

func (c Caller) anywhere(needed Role) bool {
	for _, role := range c.Services {
		if role.Includes(needed) {
			return true
		}
	}
	return c.Role.Includes(needed)
}

// one is a service that an input names; none where it names none.
func one(service string) []string {
	if service == "" {
		return nil
	}
	return []string{service}
}

func (in ApplyInput) concerns() []string          { return one(in.Service.Name) }
func (in StatusInput) concerns() []string         { return one(in.Service) }
func (in ReleasesInput) concerns() []string       { return one(in.Service) }
func (in MakeReleaseInput) concerns() []string    { return one(in.Service) }
func (in DiffInput) concerns() []string           { return one(in.Service) }
func (in LedgerInput) concerns() []string         { return one(in.Service) }
func (in LedgerService) concerns() []string       { return one(in.Service) }
func (in LedgerPage) concerns() []string          { return one(in.Service) }
func (in ServedInput) concerns() []string         { return one(in.Service) }
func (in AdoptInput) concerns() []string          { return one(in.Service) }
func (in FeedbackInput) concerns() []string       { return one(in.Service) }
func (in EvaluationsInput) concerns() []string    { return one(in.Service) }
func (in PromoteInput) concerns() []string        { return one(in.Service) }
func (in InterveneInput) concerns() []string      { return one(in.Service) }
func (in ApproveInput) concerns() []string        { return one(in.Service) }
func (in BreakGlassInput) concerns() []string     { return one(in.Service) }
func (in RollbackInput) concerns() []string       { return one(in.Service) }
func (in FreezesInput) concerns() []string        { return one(in.Service) }
func (in CheckFreezeInput) concerns() []string    { return one(in.Service) }
func (in OpenFreezeInput) concerns() []string     { return one(in.Service) }
func (in CloseFreezeInput) concerns() []string    { return one(in.Service) }
func (in SchedulesInput) concerns() []string      { return one(in.Service) }
func (in ChangeScheduleInput) concerns() []string { return one(in.Service) }
func (in EvidenceInput) concerns() []string       { return one(in.Service) }
func (in ReportInput) concerns() []string         { return one(in.Service) }
func (in KeysInput) concerns() []string           { return one(in.Service) }
func (in CreateKeyInput) concerns() []string      { return in.Services }

// concerns: the loop's own input names the service.
func (in StartInput) concerns() []string {
	var loop map[string]any
	if json.Unmarshal(in.Input, &loop) != nil {
		return nil
	}
	service, _ := loop["service"].(string)
	return one(service)
}

// concerns: customary IDs name the service behind the loop, "promote/docs". Who may start workflows may choose another
// ID; who watches it then needs the role in all services, or in the one that the ID claims.
func (in WatchInput) concerns() []string {
	parts := strings.Split(in.WorkflowID, "/")
	if len(parts) < 2 || lifecycle.CheckServiceName(parts[1]) != nil {
		return nil
	}
	return one(parts[1])
}
