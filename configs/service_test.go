package configs

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestExampleServicesAreValid(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("examples")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, f := range files {
		_, err := ReadServiceFile("examples/" + f.Name())
		require.NoError(t, err, f.Name())
	}
}

func TestReadServiceNamesAllFaultsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := ReadService(strings.NewReader(`
service: Docs
serving: {engine: static, api_key: sk-12345}
rollout: {steps: [{share_bp: 40000}]}
cadences: [{loop: index, cron: "daily"}]
`))
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	for _, want := range []string{"service:", "serving.endpoints", "serving.api_key", "rollout.steps[0].share_bp", "cadences[0].cron"} {
		require.Contains(t, err.Error(), want)
	}
	require.NotContains(t, err.Error(), "sk-12345", "a secret is never repeated")
}

func TestReadServiceRefusesUnknownFields(t *testing.T) {
	t.Parallel()
	_, err := ReadService(strings.NewReader("service: docs\nrelaese: {}\n"))
	require.ErrorContains(t, err, `relaese`)
}

// The schema is part of the repository, so that editors can use it; it is generated, never edited.
func TestSchemaIsUpToDate(t *testing.T) {
	t.Parallel()
	want, err := Schema()
	require.NoError(t, err)
	have, err := os.ReadFile("service.schema.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(have), "run `make generate`")
}
