package control_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// Every use case stands here with an input that concerns the service docs, or by which it concerns all services. A role
// in docs is enough for the first, and for nothing else.
func TestRolesAreOfServices(t *testing.T) {
	t.Parallel()
	const inAll, inAny = "a role in all services", "a role in any service"
	want := map[string]string{
		"services": inAny, "revoke-key": inAll,
		"apply": `{"service": {"service": "docs"}}`, "create-key": `{"services": ["docs"]}`, "watch": `{"workflow_id": "promote/docs"}`,
		"start": `{"workflow": "RebuildIndex", "input": {"service": "docs"}}`,
	}
	c := control.New(control.Config{}) // nothing behind it: a role is checked before anything is touched
	for _, h := range control.Handlers() {
		input, special := want[h.Name]
		delete(want, h.Name)
		switch {
		case input == inAll:
			input = `{}`
		case input == inAny:
			_, ofAny, err := h.Concerns([]byte(`{}`))
			require.NoError(t, err)
			require.True(t, ofAny, h.Name)
			continue
		case !special:
			input = `{"service": "docs"}`
		}
		names, ofAny, err := h.Concerns([]byte(input))
		require.NoError(t, err, h.Name)
		require.False(t, ofAny, h.Name)
		scoped := control.Caller{Name: "dora", Services: map[string]control.Role{"docs": control.Admin}}
		if input == `{}` {
			require.Empty(t, names, h.Name)
			_, err := h.Do(t.Context(), c, scoped, []byte(input))
			require.True(t, lifecycle.Is(err, lifecycle.Refused), "%s: %v", h.Name, err)
			continue
		}
		require.Equal(t, []string{"docs"}, names, h.Name)
		_, err = h.Do(t.Context(), c, scoped, []byte(strings.ReplaceAll(input, "docs", "other")))
		require.True(t, lifecycle.Is(err, lifecycle.Refused), "%s: %v", h.Name, err)
		require.ErrorContains(t, err, `in service "other"`)
		_, err = h.Do(t.Context(), c, scoped, []byte(`{}`))
		require.Error(t, err, "%s: what names no service asks for a role in all of them", h.Name)
	}
	require.Empty(t, want)
}

func TestTheGreaterRoleCounts(t *testing.T) {
	t.Parallel()
	caller := control.Caller{Role: control.Operator, Services: map[string]control.Role{"docs": control.Approver, "chat": control.Viewer}}
	require.Equal(t, control.Approver, caller.RoleIn("docs"))
	require.Equal(t, control.Operator, caller.RoleIn("chat"))
	require.Equal(t, control.Operator, caller.RoleIn("other"))
	require.Equal(t, control.Role(""), control.Caller{}.RoleIn("docs"))
	require.Equal(t, control.Viewer, control.Caller{Services: map[string]control.Role{"docs": control.Viewer}}.RoleIn("docs"))
}

func TestServicesShowsWhatTheCallerMaySee(t *testing.T) {
	w := newWorld(t)
	w.apply()
	w.apply(func(s *lifecycle.Service) { s.Name = "chat" })
	names := func(caller control.Caller) (out []string) {
		seen, err := control.Services.Do(w.ctx, w.control, caller, struct{}{})
		require.NoError(t, err)
		for _, s := range seen {
			out = append(out, s.Service)
		}
		return out
	}
	require.Equal(t, []string{"chat", "docs"}, names(as(control.Viewer)))
	scoped := control.Caller{Name: "dora", Services: map[string]control.Role{"chat": control.Viewer}}
	require.Equal(t, []string{"chat"}, names(scoped))
	_, err := control.Status.Do(w.ctx, w.control, scoped, control.StatusInput{Service: "chat"})
	require.NoError(t, err)
	_, err = control.Services.Do(w.ctx, w.control, control.Caller{Name: "nobody"}, struct{}{})
	require.True(t, lifecycle.Is(err, lifecycle.Refused))
}

// A loop reads its input without regard to case, so a second spelling could name another service than the one whose
// role was asked for.
func TestALoopsInputNamesOneService(t *testing.T) {
	w := newTemporalWorld(t)
	w.apply()
	for _, input := range []string{`{"service": "docs", "Service": "other"}`, "{\"service\": \"docs\", \"\u017fervice\": \"other\"}"} {
		message := refused(w, lifecycle.Invalid, control.Start, control.StartInput{Workflow: "RebuildIndex", Input: []byte(input)})
		require.Contains(t, message, "unknown field")
	}
}
