package corpus

import (
	"errors"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// FolderOptions says how a folder of text is read. The zero value works.
type FolderOptions struct {
	Name       string   // stands before every ID and source, so that folders do not collide; may be empty
	Extensions []string // default .md .markdown .txt .text .rst
}

// Folder reads a folder of Markdown and plain text: one document for each section of a Markdown file, headed by its
// title, and one for each other file. The ID is the path, for a section with '#' and its heading as an
// anchor; the source is the file. Folders and files that begin with a dot are left out. Text that is not UTF-8
// comes as it is: [Check] counts it.
func Folder(fsys fs.FS, options FolderOptions) iter.Seq2[Document, error] {
	extensions := options.Extensions
	if len(extensions) == 0 {
		extensions = []string{".md", ".markdown", ".txt", ".text", ".rst"}
	}
	return func(yield func(Document, error) bool) {
		err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case name != "." && strings.HasPrefix(entry.Name(), "."):
				if entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			case !entry.Type().IsRegular() || !slices.Contains(extensions, strings.ToLower(path.Ext(name))):
				return nil
			}
			return readText(fsys, name, options.Name, yield)
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Document{}, lifecycle.Wrap(err, "read the folder %q", options.Name))
		}
	}
}

func readText(fsys fs.FS, name, folder string, yield func(Document, error) bool) error {
	source := path.Join(folder, name)
	raw, err := readBounded(fsys, name)
	if lifecycle.Is(err, lifecycle.Corrupt) {
		if !yield(Document{ID: source, Source: source}, err) {
			return errStopped
		}
		return nil
	}
	if err != nil {
		return err
	}
	docs := []Document{{ID: source, Source: source, Title: strings.TrimSuffix(path.Base(name), path.Ext(name)), Text: string(raw)}}
	if ext := strings.ToLower(path.Ext(name)); ext == ".md" || ext == ".markdown" {
		docs = sections(docs[0])
	}
	for _, d := range docs {
		if !yield(d, nil) {
			return errStopped
		}
	}
	return nil
}

// sections splits Markdown at its headings (lines of one to six '#' outside of fenced code). The text before
// the first heading keeps the file's ID and title. Sections without text are left out.
func sections(file Document) []Document {
	var docs []Document
	anchors := map[string]bool{}
	current, fence := file, ""
	var text strings.Builder
	flush := func() {
		current.Text = text.String()
		text.Reset()
		if strings.TrimSpace(current.Text) != "" {
			docs = append(docs, current)
		}
	}
	for line := range strings.Lines(file.Text) {
		trimmed := strings.TrimSpace(line)
		if mark := fenceMark(trimmed); mark != "" {
			switch {
			case fence == "":
				fence = mark
			case strings.HasPrefix(mark, fence) && strings.Trim(trimmed, fence[:1]) == "":
				fence = ""
			}
		}
		title, ok := heading(line)
		if fence != "" || !ok {
			text.WriteString(line)
			continue
		}
		flush()
		current.Title, current.ID = title, file.ID+"#"+anchor(title, anchors)
	}
	flush()
	return docs
}

// fenceMark gives the run of backquotes or tildes, three at least, that a line begins with.
func fenceMark(line string) string {
	for _, c := range []string{"`", "~"} {
		if n := len(line) - len(strings.TrimLeft(line, c)); n >= 3 {
			return line[:n]
		}
	}
	return ""
}

func heading(line string) (title string, ok bool) {
	rest := strings.TrimLeft(line, "#")
	level := len(line) - len(rest)
	if level < 1 || level > 6 || !strings.HasPrefix(rest, " ") {
		return "", false
	}
	title = strings.TrimSpace(strings.TrimRight(strings.TrimSpace(rest), "#"))
	return title, title != ""
}

// anchor makes a heading's name in its file; a heading that comes again gets a number, as on GitHub.
func anchor(title string, seen map[string]bool) string {
	name := strings.Join(words(title), "-")
	free := name
	for n := 1; seen[free]; n++ {
		free = name + "-" + strconv.Itoa(n)
	}
	seen[free] = true
	return free
}
