package lifecycle_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestAPIKeysAreReadInOneFormOnly(t *testing.T) {
	t.Parallel()
	secret, id, err := lifecycle.NewAPIKey(strings.Repeat("A2", 32))
	require.NoError(t, err)
	require.Equal(t, "rfk_a2a2a2a2a2a2", id)
	read, hash, ok := lifecycle.ReadAPIKey(secret)
	require.True(t, ok)
	require.Equal(t, id, read)
	require.Equal(t, sha256.Sum256([]byte(secret)), hash)
	for name, text := range map[string]string{
		"empty": "", "short": secret[:len(secret)-1], "long": secret + "a", "upper case": strings.ToUpper(secret),
		"another prefix": "sk_" + secret[3:], "a letter that is none": secret[:20] + "1" + secret[21:],
		"no separator": secret[:16] + "a" + secret[17:], "a line end": secret[:68] + "\n",
	} {
		_, _, ok := lifecycle.ReadAPIKey(text)
		require.False(t, ok, name)
	}
	for _, letters := range []string{"", "abc", strings.Repeat("a", 63), strings.Repeat("1", 64)} {
		_, _, err := lifecycle.NewAPIKey(letters)
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), letters)
	}
}

func TestWhatCannotBeAKeyIsRefusedWholly(t *testing.T) {
	t.Parallel()
	now := time.Now()
	require.NoError(t, lifecycle.APIKey{Name: "app", Services: []string{"docs"}, ExpiresAt: now.Add(time.Hour)}.Check(now))
	err := lifecycle.APIKey{Name: "My App", Services: []string{"Docs"}, RequestsPerMinute: -1, ExpiresAt: now}.Check(now)
	require.True(t, lifecycle.Is(err, lifecycle.Invalid))
	require.ErrorContains(t, err, "4 fault(s)")
	require.ErrorContains(t, lifecycle.APIKey{Name: "app"}.Check(now), "services")
}

func FuzzReadAPIKey(f *testing.F) {
	f.Add("rfk_a2a2a2a2a2a2_" + strings.Repeat("b", 52))
	f.Add("rfk_")
	f.Fuzz(func(t *testing.T, text string) {
		id, hash, ok := lifecycle.ReadAPIKey(text)
		if ok && (!strings.HasPrefix(text, id) || hash != sha256.Sum256([]byte(text)) || len(text) != 69) {
			t.Fatalf("%q was read as %q", text, id)
		}
	})
}
