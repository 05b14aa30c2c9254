package configs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/viper"
	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// These tests set environment variables, so they are not parallel.

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestTheLastOneGivenWins(t *testing.T) {
	t.Setenv("REFIT_STACK", write(t, "stack.json", `{
		"postgres": {"app_url": "postgres://stack", "owner_url": "postgres://owner", "rollback_url": "postgres://rollback"},
		"temporal": {"address": "stack:7233", "namespace": "refit", "ui_url": "http://ui"},
		"s3": {"endpoint": "stack:9000", "access_key": "a", "secret_key": "s", "bucket": "b"}}`))
	t.Setenv("REFIT_GATEWAY_LISTEN", "127.0.0.1:1")
	t.Setenv("REFIT_WORKER_QUEUES", "refit,refit-io")
	t.Setenv("REFIT_WORKER_DRAIN", "3s")
	s, err := Load(write(t, "settings.yaml", `
temporal: {address: "file:7233"}
gateway: {listen: "127.0.0.1:2", drain: 5s}
control:
  listen: 127.0.0.1:3
  tokens: [{name: vera, role: viewer, secret: "env:VERA"}]
`))
	require.NoError(t, err)
	require.Equal(t, "postgres://stack", s.Registry.URL)
	require.Equal(t, "file:7233", s.Temporal.Address, "the file goes over the stack")
	require.Equal(t, "http://ui", s.Temporal.UI)
	require.Equal(t, "127.0.0.1:1", s.Gateway.Listen, "the environment goes over the file")
	require.Equal(t, 5*time.Second, s.Gateway.Drain)
	require.Equal(t, 3*time.Second, s.Worker.Drain)
	require.Equal(t, []string{"refit", "refit-io"}, s.Worker.Queues)
	require.Equal(t, "http://127.0.0.1:3", s.Control.URL, "it is made of listen")
	require.Equal(t, []Token{{Name: "vera", Role: "viewer", Secret: "env:VERA"}}, s.Control.Tokens)
	require.True(t, filepath.IsAbs(s.Data))
	require.Equal(t, filepath.Join(s.Data, "control-token"), s.Control.TokenFile)
}

func TestWhomSuitesMayAskStandsInTheSettings(t *testing.T) {
	s, err := Load(write(t, "settings.yaml", `
scoring:
  judges:
    strict: {url: "http://127.0.0.1:9", model: judge-1, api_key: "env:KEY", time_limit: 10s}
  commands:
    own: {argv: [/opt/scorer, --fast], time_limit: 5s}
`))
	require.NoError(t, err)
	require.Equal(t, map[string]Judge{"strict": {URL: "http://127.0.0.1:9", Model: "judge-1", APIKey: "env:KEY", TimeLimit: 10 * time.Second}}, s.Scoring.Judges)
	require.Equal(t, map[string]ScoreCommand{"own": {Argv: []string{"/opt/scorer", "--fast"}, TimeLimit: 5 * time.Second}}, s.Scoring.Commands)
	_, err = Load(write(t, "settings.yaml", "scoring: {judges: {strict: {urll: x}}}"))
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

func TestRolesOfServicesStandInTheSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
control:
  tokens: [{name: dora, services: {docs-assistant: approver}, secret: "env:DORA"}]
  oidc:
    issuer: https://idp.example
    audience: refit
    roles_claim: groups
    roles:
      - {value: ml-oncall, role: operator}
      - {value: docs-leads, role: approver, services: [docs-assistant]}
`), 0o600))
	s, err := Load(file)
	require.NoError(t, err)
	require.Equal(t, []Token{{Name: "dora", Services: map[string]string{"docs-assistant": "approver"}, Secret: "env:DORA"}}, s.Control.Tokens)
	require.Equal(t, OIDC{
		Issuer: "https://idp.example", Audience: "refit", RolesClaim: "groups",
		Roles: []OIDCRole{{Value: "ml-oncall", Role: "operator"}, {Value: "docs-leads", Role: "approver", Services: []string{"docs-assistant"}}},
	}, s.Control.OIDC)
}

func TestUnknownSettingsAreRefused(t *testing.T) {
	for name, content := range map[string]string{"a field": "gateway: {lisen: x}", "a room": "gatewy: {listen: x}", "a type": "worker: {slots: many}"} {
		_, err := Load(write(t, "settings.yaml", content))
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%s: %v", name, err)
	}
	_, err := Load("/nowhere/settings.yaml")
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

func TestAStackThatIsNotThereIsInfrastructure(t *testing.T) {
	t.Setenv("REFIT_STACK", "/nowhere/stack.json")
	_, err := Load("")
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "%v", err)
	t.Setenv("REFIT_STACK", write(t, "stack.json", "no JSON"))
	_, err = Load("")
	require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%v", err)
}

// viper reads only named keys from the environment, so a field without a default could never be set there.
func TestEveryFieldHasADefault(t *testing.T) {
	v := viper.New()
	setDefaults(v)
	var visit func(prefix string, of reflect.Type)
	visit = func(prefix string, of reflect.Type) {
		for i := range of.NumField() {
			field := of.Field(i)
			key := prefix + field.Tag.Get("mapstructure")
			if field.Type.Kind() == reflect.Struct {
				visit(key+".", field.Type)
				continue
			}
			require.True(t, v.IsSet(key), key)
		}
	}
	visit("", reflect.TypeFor[Settings]())
}

func TestSecretsAreReadByReference(t *testing.T) {
	t.Setenv("REFIT_TEST_SECRET", " from the environment \n")
	t.Setenv("REFIT_TEST_EMPTY", "")
	secret, err := Secret("env:REFIT_TEST_SECRET")
	require.NoError(t, err)
	require.Equal(t, "from the environment", secret)
	file := write(t, "secret", "from a file\n")
	secret, err = Secret("file:" + file)
	require.NoError(t, err)
	require.Equal(t, "from a file", secret)
	for _, reference := range []string{
		"env:REFIT_TEST_EMPTY", "env:", "file:relative", "file:/nowhere", "file:" + write(t, "empty", "\n"),
		"file:" + write(t, "large", strings.Repeat("x", 70<<10)), "sk-12345", "",
	} {
		_, err := Secret(reference)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%q: %v", reference, err)
		require.NotContains(t, err.Error(), "sk-12345", "a secret is never repeated")
	}
}

func TestReadServiceNamesWrongTimeZonesWithTheOtherFaults(t *testing.T) {
	raw, err := json.Marshal(map[string]any{
		"service": "docs", "serving": map[string]any{"engine": "nothing"},
		"cadences": []any{map[string]any{"loop": "index", "cron": "0 3 * * *", "time_zone": "Eurupe/Berlin"}},
	})
	require.NoError(t, err)
	_, err = ReadService(strings.NewReader(string(raw)))
	require.ErrorContains(t, err, "serving.engine")
	require.ErrorContains(t, err, "cadences[0].time_zone")
}
