package demo

import (
	"context"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/corpus"
	"github.com/refitml/refit/internal/lifecycle"
)

// Question is one that the documentation on this machine answers: the first sentence of a doc comment or section
// asks for the rest of it.
type Question struct {
	Text       string
	Documented string // what stands there
	Group      string // package or file
}

// perSource bounds the questions that one source gives, spread evenly over it, so that none is all there is to ask about.
const perSource = 150

// Questions reads the sources of a service's corpora that it retrieves from, or of all where it names none. The
// same machine and seed give the same questions in the same order.
func Questions(ctx context.Context, checkout string, service lifecycle.Service, seed uint64) ([]Question, error) {
	names := service.Retrieval.Corpora
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(service.Corpora))
	}
	var all []Question
	for _, name := range names {
		for _, source := range service.Corpora[name].Sources {
			parts, err := documents(ctx, checkout, source)
			if err != nil {
				return nil, lifecycle.Wrap(err, "find questions in corpus %s", name)
			}
			for _, part := range parts {
				found, err := questionsOf(part)
				if err != nil {
					return nil, lifecycle.Wrap(err, "find questions in corpus %s", name)
				}
				all = append(all, found...)
			}
		}
	}
	if len(all) == 0 {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "no question could be made of the corpora %v", names)
	}
	// Whole groups are shuffled: neighbours stay together, as the questions of one person do.
	groups := map[string][]Question{}
	var order []string
	for _, q := range all {
		if groups[q.Group] == nil {
			order = append(order, q.Group)
		}
		groups[q.Group] = append(groups[q.Group], q)
	}
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	all = all[:0]
	for _, group := range order {
		all = append(all, groups[group]...)
	}
	return all, nil
}

func questionsOf(docs iter.Seq2[corpus.Document, error]) ([]Question, error) {
	var found []Question
	asked := map[string]bool{}
	for d, err := range docs {
		if lifecycle.Is(err, lifecycle.Corrupt) {
			continue // one file that cannot be read asks nothing
		}
		if err != nil {
			return nil, err
		}
		if q, rest, ok := corpus.Pair(d); ok && !asked[q.Text] {
			asked[q.Text] = true
			found = append(found, Question{Text: q.Text, Documented: rest.Text, Group: q.Group})
		}
	}
	if len(found) <= perSource {
		return found, nil
	}
	spread := make([]Question, perSource)
	for i := range spread {
		spread[i] = found[i*len(found)/perSource]
	}
	return spread, nil
}

func documents(ctx context.Context, checkout string, source lifecycle.Source) ([]iter.Seq2[corpus.Document, error], error) {
	switch source.Kind {
	case "go-std":
		root, err := goCommand(ctx, checkout, "env", "GOROOT")
		if err != nil {
			return nil, err
		}
		return one(corpus.GoPackages(os.DirFS(filepath.Join(root, "src")), corpus.GoOptions{Skip: []string{"cmd"}})), nil
	case "go-modules":
		var parts []iter.Seq2[corpus.Document, error]
		for _, module := range source.Modules {
			dir, err := goCommand(ctx, checkout, "list", "-m", "-f", "{{.Dir}}", module)
			if err != nil || dir == "" {
				return nil, lifecycle.Errorf(lifecycle.Unavailable, "find module %s: %v; `go mod download` brings it", module, err)
			}
			parts = append(parts, corpus.GoPackages(os.DirFS(dir), corpus.GoOptions{Path: module}))
		}
		return parts, nil
	case "folder":
		return one(corpus.Folder(os.DirFS(source.Path), corpus.FolderOptions{})), nil
	default:
		return nil, lifecycle.Errorf(lifecycle.Invalid, "source of kind %q", source.Kind)
	}
}

func one(docs iter.Seq2[corpus.Document, error]) []iter.Seq2[corpus.Document, error] {
	return []iter.Seq2[corpus.Document, error]{docs}
}

func goCommand(ctx context.Context, dir string, arguments ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir = dir
	out, err := command.Output()
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Unavailable, "go %s: %w", strings.Join(arguments, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
