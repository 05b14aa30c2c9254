package evaluation

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	stdhash "hash"
	"io"

	"github.com/refitml/refit/internal/evaluation/score"
	"github.com/refitml/refit/internal/lifecycle"
)

// Digest is the suite's identity: that of the artifact which Write makes.
func (s Suite) Digest() (lifecycle.Digest, error) {
	var hashed digesting
	if err := s.Write(&hashed); err != nil {
		return "", err
	}
	var files []lifecycle.File
	for _, f := range hashed {
		files = append(files, lifecycle.File{Path: f.name, Size: f.size, SHA256: lifecycle.Digest(hex.EncodeToString(f.Sum(nil)))})
	}
	manifest, err := lifecycle.NewManifest(lifecycle.SuiteArtifact, files)
	return manifest.Digest(), err
}

// digesting is a tree of which only the digests are kept.
type digesting []*digested

type digested struct {
	stdhash.Hash
	name string
	size int64
}

func (d *digesting) Create(name string) (io.WriteCloser, error) {
	f := &digested{Hash: sha256.New(), name: name}
	*d = append(*d, f)
	return f, nil
}

func (d *digested) Write(p []byte) (int, error) {
	d.size += int64(len(p))
	return d.Hash.Write(p)
}

func (d *digested) Close() error { return nil }

// Summary is what a capability of a suite holds, for people.
type Summary struct {
	Capability string  `json:"capability"`
	Kind       string  `json:"kind"`
	Metric     string  `json:"metric"`
	Margin     float64 `json:"margin"`
	Samples    int     `json:"samples"`
	Gate       int     `json:"gate"`   // cases that gates ask
	Search     int     `json:"search"` // cases that variants may be tried against
	Groups     int     `json:"groups"` // of the gate's cases
	Weight     int     `json:"weight"` // of the gate's cases, in all

	Labels         int `json:"labels"`          // of people, on the gate's cases, that the scorer is held against
	LabelledGroups int `json:"labelled_groups"` // as many of them as are independent
}

// Summaries sums up each capability.
func (s Suite) Summaries() []Summary {
	list, groups, labelled := make([]Summary, len(s.Capabilities)), make([]map[string]bool, len(s.Capabilities)), make([]map[string]bool, len(s.Capabilities))
	at := map[string]int{}
	scorers, _ := s.scorers(score.World{}) // none where the suite does not check: nothing is held against people then
	for i, c := range s.Capabilities {
		list[i] = Summary{Capability: c.Name, Kind: c.Kind, Metric: c.Metric, Margin: c.Margin, Samples: c.Samples()}
		groups[i], labelled[i], at[c.Name] = map[string]bool{}, map[string]bool{}, i
	}
	for _, c := range s.Cases {
		i := at[c.Capability]
		if c.Split == SearchSplit {
			list[i].Search++
			continue
		}
		list[i].Gate++
		list[i].Weight += cmp.Or(c.Weight, 1)
		groups[i][c.Group] = true
		if c.labelled(scorers[c.Capability]) {
			list[i].Labels++
			labelled[i][c.Group] = true
		}
	}
	for i := range list {
		list[i].Groups, list[i].LabelledGroups = len(groups[i]), len(labelled[i])
	}
	return list
}
