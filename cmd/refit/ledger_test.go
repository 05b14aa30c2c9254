package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestAnExportIsVerifiedWithoutRefit(t *testing.T) {
	t.Parallel()
	var lines []string
	var previous lifecycle.Digest
	for n := range 5 {
		e := lifecycle.Chained{Text: `{"a": 1, "b": "<x>"}`, LedgerEntry: lifecycle.LedgerEntry{
			Service: "docs", Sequence: int64(n + 1), At: time.UnixMicro(int64(n)), Kind: lifecycle.Paused, Evidence: json.RawMessage(`{"a": 1, "b": "<x>"}`),
		}}
		e.Chain = e.Link(previous)
		previous = e.Chain
		raw, err := json.Marshal(e)
		require.NoError(t, err)
		lines = append(lines, string(raw))
	}
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	verify := func(lines []string) ([]lifecycle.LedgerFault, error) {
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
		v, err := verifyFile("docs", path)
		return v.Faults, err
	}
	faults, err := verify(lines)
	require.NoError(t, err)
	require.Empty(t, faults)
	faults, err = verify(append([]string{}, lines[0], lines[2]))
	require.NoError(t, err)
	require.NotEmpty(t, faults)
	changed := append([]string{}, lines...)
	changed[3] = strings.Replace(changed[3], "paused", "resumed", 1)
	faults, err = verify(changed)
	require.NoError(t, err)
	require.EqualValues(t, 4, faults[0].Sequence)
	_, err = verify([]string{lines[0], `{"sequence": 2, "who": "mallory"}`})
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
	_, err = verifyFile("docs", path+".gone")
	require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
}

func TestMomentsAreReadInTwoForms(t *testing.T) {
	t.Parallel()
	zoned, err := parseMoment("2026-05-03T14:03:00+02:00")
	require.NoError(t, err)
	require.True(t, zoned.Equal(time.Date(2026, 5, 3, 12, 3, 0, 0, time.UTC)))
	local, err := parseMoment("2026-05-03 14:03")
	require.NoError(t, err)
	require.True(t, local.Equal(time.Date(2026, 5, 3, 14, 3, 0, 0, time.Local)))
	_, err = parseMoment("yesterday")
	require.ErrorContains(t, err, "2026-05-03T14:03:00+02:00")
}
