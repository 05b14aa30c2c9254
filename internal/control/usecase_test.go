package control_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func TestRolesIncludeThoseBeforeThem(t *testing.T) {
	t.Parallel()
	roles := []control.Role{control.Viewer, control.Operator, control.Approver, control.Admin}
	for i, have := range roles {
		for j, needed := range roles {
			require.Equal(t, i >= j, have.Includes(needed), "%s for %s", have, needed)
		}
	}
	for _, unknown := range []control.Role{"", "root", "Admin"} {
		require.False(t, unknown.Includes(control.Viewer), "an unknown role may do nothing")
	}
	require.False(t, control.Admin.Includes("root"), "what asks for an unknown role is for nobody")
}

// Every use case stands here with the least role that may do it, so that giving one away is a decision.
func TestEveryUseCaseAsksForItsRole(t *testing.T) {
	t.Parallel()
	want := map[string]control.Role{
		"services": control.Viewer, "status": control.Viewer, "releases": control.Viewer, "diff": control.Viewer,
		"watch": control.Viewer, "evaluations": control.Viewer, "ledger": control.Viewer, "feedback": control.Viewer,
		"schedules": control.Viewer, "keys": control.Viewer, "report": control.Viewer, "ledger-verify": control.Viewer, "ledger-export": control.Viewer,
		"served": control.Viewer, "evidence": control.Viewer, "adopt": control.Admin,
		"freezes": control.Viewer, "check-freeze": control.Viewer,
		"promote": control.Operator, "intervene": control.Operator, "rollback": control.Operator, "start": control.Operator,
		"change-schedule": control.Operator, "make-release": control.Operator,
		"revoke-key": control.Operator, "open-freeze": control.Operator,
		"approve": control.Approver, "break-glass": control.Approver, "close-freeze": control.Approver,
		"apply": control.Admin, "create-key": control.Admin,
	}
	c := control.New(control.Config{}) // nothing behind it: a role is checked before anything is touched
	lesser := map[control.Role]control.Role{control.Viewer: "", control.Operator: control.Viewer, control.Approver: control.Operator, control.Admin: control.Approver}
	for _, h := range control.Handlers() {
		require.Equal(t, want[h.Name], h.Role, h.Name)
		delete(want, h.Name)
		_, err := h.Do(t.Context(), c, as(lesser[h.Role]), []byte(`{}`))
		require.True(t, lifecycle.Is(err, lifecycle.Refused), "%s by %q: %v", h.Name, lesser[h.Role], err)
		require.ErrorContains(t, err, "needs role "+string(h.Role))
	}
	require.Empty(t, want)
}

func TestInputIsReadStrictly(t *testing.T) {
	t.Parallel()
	c := control.New(control.Config{})
	for name, tc := range map[string]struct{ input, want string }{
		"an unknown field":   {`{"service": "docs", "relaese": "ab"}`, `unknown field "relaese"`},
		"a wrong type":       {`{"service": 7}`, "service"},
		"nothing":            {``, "give a JSON object"},
		"text after the end": {`{"service": "docs"} {}`, "text after the end"},
		"no JSON":            {`service: docs`, "invalid character"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, h := range control.Handlers() {
				if h.Name != "promote" {
					continue
				}
				_, err := h.Do(t.Context(), c, as(control.Admin), []byte(tc.input))
				require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
				require.ErrorContains(t, err, tc.want)
			}
		})
	}
}

func TestLinksIntoTheTemporalUI(t *testing.T) {
	t.Parallel()
	require.Equal(t, "http://ui/namespaces/ns/workflows/promote%2Fdocs/run-1", control.WorkflowURL("http://ui/", "ns", "promote/docs", "run-1"))
	require.Equal(t, "http://ui/namespaces/ns/workflows/start-workflow?taskQueue=refit&workflowId=promote%2Fdocs&workflowType=PromoteRelease",
		control.StartURL("http://ui", "ns", "PromoteRelease", "promote/docs"))
	with := control.New(control.Config{TemporalUI: "http://ui", Namespace: "ns"})
	require.Len(t, with.StartLinks("docs"), 6)
	require.Equal(t, `{"service": "docs"}`, with.StartLinks("docs")[0].Input)
	require.Equal(t, "http://ui/namespaces/ns/workflows", with.WorkflowsURL())
	without := control.New(control.Config{})
	require.Empty(t, without.StartLinks("docs"))
	require.Empty(t, without.WorkflowsURL())
}
