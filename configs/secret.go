package configs

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// Secret reads what a reference points at: env:NAME or file:/absolute/path. White space around it does not
// count. What is missing or empty is Invalid; the secret is never in the error.
func Secret(reference string) (string, error) {
	if name, ok := strings.CutPrefix(reference, "env:"); ok && name != "" {
		secret := strings.TrimSpace(os.Getenv(name))
		if secret == "" {
			return "", lifecycle.Errorf(lifecycle.Invalid, "the secret in environment variable %s is missing or empty", name)
		}
		return secret, nil
	}
	path, ok := strings.CutPrefix(reference, "file:")
	if !ok || !filepath.IsAbs(path) {
		return "", lifecycle.Errorf(lifecycle.Invalid, "not a reference to a secret; give env:NAME or file:/absolute/path")
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "read a secret: %w", err)
	}
	if info.Size() > maxSecret {
		return "", lifecycle.Errorf(lifecycle.Invalid, "read a secret: %s has more than %d bytes", path, maxSecret)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "read a secret: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" {
		return "", lifecycle.Errorf(lifecycle.Invalid, "the secret in file %s is empty", path)
	}
	return secret, nil
}
