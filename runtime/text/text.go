package text

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"
)

// Document is one line of a dataset. ID is unique in the dataset; Source and Title may be empty.
type Document struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	Title  string `json:"title"`
	Text   string `json:"text"`
}

const maxLine = 16 << 20

// Read returns the documents of one split ("train" or "heldout") of the dataset at dir. No document at all is an
// error.
func Read(dir, split string) ([]Document, error) {
	files, err := filepath.Glob(filepath.Join(dir, split, "*.jsonl"))
	if err != nil {
		return nil, fmt.Errorf("list the dataset's files: %w", err)
	}
	sort.Strings(files)
	var documents []Document
	seen := map[string]bool{}
	for _, file := range files {
		documents, err = appendFile(documents, file, seen)
		if err != nil {
			return nil, err
		}
	}
	if len(documents) == 0 {
		return nil, fmt.Errorf("read the dataset %s: no document in %s/*.jsonl", dir, split)
	}
	return documents, nil
}

func appendFile(documents []Document, file string, seen map[string]bool) ([]Document, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the dataset: %w", err)
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<16), maxLine)
	for n := 1; lines.Scan(); n++ {
		raw := lines.Bytes()
		if strings.TrimSpace(string(raw)) == "" {
			continue
		}
		var d Document
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("read the dataset: %s line %d: %w", file, n, err)
		}
		switch {
		case !utf8.Valid(raw):
			return nil, fmt.Errorf("read the dataset: %s line %d: not UTF-8", file, n)
		case d.ID == "" || seen[d.ID]:
			return nil, fmt.Errorf("read the dataset: %s line %d: the ID %q is empty or was there before", file, n, d.ID)
		case strings.TrimSpace(d.Text) == "":
			return nil, fmt.Errorf("read the dataset: %s line %d: the document %s has no text", file, n, d.ID)
		}
		seen[d.ID] = true
		documents = append(documents, d)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the dataset: %s: %w", file, err)
	}
	return documents, nil
}

// Rendered is what a model reads of a document: its title on a line of its own, if it has one, then its text.
func (d Document) Rendered() string {
	if d.Title == "" {
		return d.Text
	}
	return d.Title + "\n" + d.Text
}
