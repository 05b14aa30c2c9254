package evaluation

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"

	"github.com/refitml/refit/internal/lifecycle"
)

// Offline compares two releases by files alone: a suite's folder and what both said to it. It is Judge's verdict, and
// nobody's gate: nothing is recorded and no attempt is counted. Faults of the files are errors, answers to another
// suite than the folder holds are a verdict of error.
func Offline(suite fs.FS, baseline, candidate func() (io.ReadCloser, error)) (lifecycle.Verdict, Report, error) {
	f := Files{Gate: Gate{Service: "files", Attempt: 1}, Tree: suite, Baseline: baseline, Candidate: candidate}
	var err error
	if f.SuiteDigest, err = digestOf(suite); err != nil {
		return lifecycle.Verdict{}, Report{}, err
	}
	if f.Gate.Baseline, err = releaseOf(baseline); err != nil {
		return lifecycle.Verdict{}, Report{}, lifecycle.Wrap(err, "the baseline's answers")
	}
	if f.Gate.Candidate, err = releaseOf(candidate); err != nil {
		return lifecycle.Verdict{}, Report{}, lifecycle.Wrap(err, "the candidate's answers")
	}
	return JudgeFiles(f)
}

// releaseOf reads who answered. Answers without a name are nobody's: as a baseline they would be none, and pass.
func releaseOf(open func() (io.ReadCloser, error)) (lifecycle.Digest, error) {
	file, err := open()
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "%w", err)
	}
	defer file.Close()
	var head Answers
	lines := scanner(file)
	if !lines.Scan() {
		return "", lifecycle.Errorf(lifecycle.Corrupt, "the first line names suite and release, and there is none")
	}
	if err := lifecycle.DecodeStrictly(lines.Bytes(), &head); err != nil {
		return "", lifecycle.Errorf(lifecycle.Corrupt, "the first line names suite and release: %w", err)
	}
	if head.Release == "" {
		return "", lifecycle.Errorf(lifecycle.Invalid, "they name no release")
	}
	return head.Release, nil
}

// digestOf gives the digest of a suite's folder as an artifact.
func digestOf(tree fs.FS) (lifecycle.Digest, error) {
	var files []lifecycle.File
	err := fs.WalkDir(tree, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		f, err := tree.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		sum := sha256.New()
		size, err := io.Copy(sum, f)
		files = append(files, lifecycle.File{Path: path, Size: size, SHA256: lifecycle.Digest(hex.EncodeToString(sum.Sum(nil)))})
		return err
	})
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "read the suite's folder: %w", err)
	}
	m, err := lifecycle.NewManifest(lifecycle.SuiteArtifact, files)
	return m.Digest(), err
}
