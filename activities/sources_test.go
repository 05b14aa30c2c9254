package activities

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestModuleDirTakesTheHighestVersion(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	for _, dir := range []string{
		"example.com/!big/m@v1.9.0", "example.com/!big/m@v1.10.0", "example.com/!big/m@v1.11.0-rc.1", "example.com/!big/m@v1.2.0",
		"example.com/!big/mm@v9.0.0", "example.com/!big/m@broken",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(cache, dir), 0o755))
	}
	dir, err := moduleDir(cache, "example.com/Big/m", "")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cache, "example.com/!big/m@v1.11.0-rc.1"), dir)
	dir, err = moduleDir(cache, "example.com/Big/m", "v1.9.0")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(cache, "example.com/!big/m@v1.9.0"), dir)
	for _, path := range []string{"example.com/Big/other", "../up", "example.com/Big/m@"} {
		_, err := moduleDir(cache, path, "v3.0.0")
		require.Error(t, err, path)
	}
}
