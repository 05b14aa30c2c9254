package artifacts

import (
	"strings"
	"testing"

	"github.com/refitml/refit/internal/lifecycle"
)

// Whatever bytes are found under a manifest's name, what is accepted can be written below a folder safely.
func FuzzParseManifest(f *testing.F) {
	good, err := lifecycle.NewManifest(lifecycle.ModelArtifact, []lifecycle.File{{Path: "a/b", Size: 1, SHA256: lifecycle.DigestOf(nil)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Canonical())
	f.Add([]byte(`{"version":1,"kind":"model","files":[{"path":"../x","size":0,"sha256":""}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseManifest(lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: lifecycle.DigestOf(body)}, body)
		if err != nil {
			if !lifecycle.Is(err, lifecycle.Corrupt) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		for _, file := range m.Files {
			if strings.HasPrefix(file.Path, "/") || strings.HasPrefix(file.Path, "..") || !file.SHA256.Valid() || file.Size < 0 {
				t.Fatalf("accepted %+v", file)
			}
		}
	})
}
