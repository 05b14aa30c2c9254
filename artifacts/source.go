package artifacts

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/refitml/refit/internal/lifecycle"
)

// source is a tree to be stored. A file may be opened several times and must hold the same bytes each time.
type source interface {
	paths() ([]string, error)
	open(path string) (content, error)
}

// content is one open file. ReadAt may be called from many goroutines.
type content interface {
	io.ReaderAt
	io.Closer
	size() int64
}

// folder is a tree on disk, held by os.Root so that no path or link leads out of it.
type folder struct{ root *os.Root }

func (f folder) paths() ([]string, error) {
	var all []string
	err := fs.WalkDir(f.root.FS(), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return nil
		case !entry.Type().IsRegular():
			return lifecycle.Errorf(lifecycle.Invalid, "%s is %v; an artifact holds regular files only", path, entry.Type())
		case len(all) == maxFiles:
			return lifecycle.Errorf(lifecycle.Invalid, "more than %d files; pack small files together", maxFiles)
		}
		all = append(all, path)
		return nil
	})
	return all, err
}

func (f folder) open(path string) (content, error) {
	file, err := f.root.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return diskFile{file, info.Size()}, nil
}

type diskFile struct {
	*os.File
	bytes int64
}

func (f diskFile) size() int64 { return f.bytes }

// inMemory is a small tree made by a program: a report, a suite.
type inMemory map[string][]byte

func (m inMemory) paths() ([]string, error) { return slices.Sorted(maps.Keys(m)), nil }

func (m inMemory) open(path string) (content, error) {
	return memoryFile{bytes.NewReader(m[path])}, nil
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error  { return nil }
func (f memoryFile) size() int64 { return f.Size() }

// sums are the digests of one part of a file, as requests carry them.
type sums struct {
	size          int64
	md5, sha256   string // hexadecimal
	md5InRequests string // base64, the form of Content-MD5
}

// hashed is a file after its first reading: its entry in the manifest and the digests of its parts.
type hashed struct {
	lifecycle.File
	parts    []sums // at least one, also for an empty file
	partSize int64
}

// hashParts reads a file once. The part size grows beyond the one asked for where the file would
// otherwise have more parts than S3 allows.
func hashParts(path string, c content, partSize int64) (hashed, error) {
	for c.size() > partSize*maxParts {
		partSize *= 2
	}
	h := hashed{File: lifecycle.File{Path: path, Size: c.size()}, partSize: partSize}
	whole := sha256.New()
	for offset := int64(0); offset == 0 || offset < c.size(); offset += partSize {
		length := min(partSize, c.size()-offset)
		m, s := md5.New(), sha256.New()
		n, err := io.Copy(io.MultiWriter(whole, m, s), io.NewSectionReader(c, offset, length))
		if err != nil {
			return hashed{}, fmt.Errorf("read %s: %w", path, err)
		}
		if n != length {
			return hashed{}, lifecycle.Errorf(lifecycle.Invalid, "%s became shorter while it was read", path)
		}
		h.parts = append(h.parts, sumsOf(length, m, s))
	}
	h.SHA256 = lifecycle.Digest(hex.EncodeToString(whole.Sum(nil)))
	return h, nil
}

func sumsOf(size int64, m, s hash.Hash) sums {
	inner := m.Sum(nil)
	return sums{
		size: size, md5: hex.EncodeToString(inner), sha256: hex.EncodeToString(s.Sum(nil)),
		md5InRequests: base64.StdEncoding.EncodeToString(inner),
	}
}
