package lifecycle

import (
	"path"
	"slices"
	"strings"
	"time"
)

// ArtifactKind says what an artifact is for.
type ArtifactKind string

const (
	DatasetArtifact  ArtifactKind = "dataset"
	ModelArtifact    ArtifactKind = "model"
	AdapterArtifact  ArtifactKind = "adapter"
	EmbedderArtifact ArtifactKind = "embedder"
	IndexArtifact    ArtifactKind = "index"
	SuiteArtifact    ArtifactKind = "suite"
	ReportArtifact   ArtifactKind = "report"
	ArchiveArtifact  ArtifactKind = "archive" // a day's interactions
)

// ArtifactKinds lists every kind.
func ArtifactKinds() []ArtifactKind {
	return []ArtifactKind{
		DatasetArtifact, ModelArtifact, AdapterArtifact, EmbedderArtifact,
		IndexArtifact, SuiteArtifact, ReportArtifact, ArchiveArtifact,
	}
}

// File is one file of an artifact's tree.
type File struct {
	Path   string `json:"path"`   // relative, slash-separated, clean, never leaving the tree
	Size   int64  `json:"size"`   // bytes
	SHA256 Digest `json:"sha256"` // of the file's bytes
}

// Manifest names every file of an artifact with its digest. The manifest's own digest is the
// artifact's identity, so two trees with equal content and kind are one artifact.
type Manifest struct {
	Version int          `json:"version"` // of the manifest's form; 1
	Kind    ArtifactKind `json:"kind"`
	Files   []File       `json:"files"` // sorted by path
}

// ManifestVersion is the form that NewManifest writes.
const ManifestVersion = 1

// NewManifest sorts the files and checks the manifest.
func NewManifest(kind ArtifactKind, files []File) (Manifest, error) {
	m := Manifest{Version: ManifestVersion, Kind: kind, Files: slices.Clone(files)}
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return m, m.Check()
}

// Check gives all faults of a manifest at once; a manifest read from anywhere is checked before use,
// because its paths become paths on a disk.
func (m Manifest) Check() error {
	var faults Problems
	if m.Version != ManifestVersion {
		faults.Add("version", itoa(m.Version), "this Refit reads version %d", ManifestVersion)
	}
	if !slices.Contains(ArtifactKinds(), m.Kind) {
		faults.Add("kind", quote(string(m.Kind)), "give one of %v", ArtifactKinds())
	}
	if len(m.Files) == 0 {
		faults.Add("files", "none", "an artifact holds at least one file")
	}
	for i, f := range m.Files {
		if !cleanRelative(f.Path) {
			faults.Add("files["+itoa(i)+"].path", quote(f.Path), "give a clean relative path inside the tree")
		}
		if f.Size < 0 || !f.SHA256.Valid() {
			faults.Add("files["+itoa(i)+"]", "size or digest is not valid", "write the artifact again")
		}
		if i > 0 && m.Files[i-1].Path >= f.Path {
			faults.Add("files["+itoa(i)+"].path", quote(f.Path), "paths are sorted and stand once")
		}
	}
	return faults.Err("manifest")
}

// Digest is the artifact's identity.
func (m Manifest) Digest() Digest { return DigestOf(m.Canonical()) }

// Canonical is the manifest's one JSON form.
func (m Manifest) Canonical() []byte { return canonical(m) }

// Size is the sum of the files' sizes in bytes.
func (m Manifest) Size() int64 {
	var total int64
	for _, f := range m.Files {
		total += f.Size
	}
	return total
}

func cleanRelative(p string) bool {
	return p != "" && p != "." && p == path.Clean(p) && !strings.HasPrefix(p, "/") &&
		p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsAny(p, "\\\x00")
}

// ArtifactRef is how big things travel: by kind and digest.
type ArtifactRef struct {
	Kind   ArtifactKind `json:"kind"`
	Digest Digest       `json:"digest"`
}

// Artifact is what the registry knows of an artifact.
type Artifact struct {
	ArtifactRef
	Service string            `json:"service"`
	Size    int64             `json:"size"` // bytes
	Files   int               `json:"files"`
	Parents []Digest          `json:"parents,omitempty"` // artifacts that it was made from
	Labels  map[string]string `json:"labels,omitempty"`  // small facts for people: domain, steps, documents
	MadeBy  Actor             `json:"made_by"`
	MadeAt  time.Time         `json:"made_at"`
}
