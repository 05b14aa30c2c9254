package activities

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

// Bounds of parts: a part holds at least so many lines, and a step keeps at most so many parts, each a while after the one
// before, so that what is done in seconds is kept in one piece only.
const (
	leastPart = 10
	mostParts = 16
	partAfter = 30 * time.Second
)

// Labels of a part: those of the whole, with this name and a number.
const (
	inParts   = " in parts"
	partLabel = "part"
	partFile  = "part.jsonl"
)

// linesOf is what an artifact of one value a line is recorded with.
type linesOf struct {
	service string
	by      lifecycle.Actor
	file    string
	parents []lifecycle.Digest
	labels  map[string]string
}

// keepLines keeps what write wrote, with the number of lines that it gave.
func (e Evaluation) keepLines(ctx context.Context, as linesOf, write func(io.Writer) (int, error)) (lifecycle.Digest, int, error) {
	dir, cleanUp, err := e.scratch("answers")
	if err != nil {
		return "", 0, err
	}
	defer cleanUp()
	file, err := dir.Create(as.file)
	if err != nil {
		return "", 0, fmt.Errorf("write %s: %w", as.file, err)
	}
	n, err := write(file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", 0, err
	}
	as.labels[casesLabel] = strconv.Itoa(n)
	ref, err := e.keepDir(ctx, lifecycle.Artifact{
		ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ReportArtifact}, Service: as.service, MadeBy: as.by,
		Parents: as.parents, Labels: as.labels,
	}, string(dir))
	return ref.Digest, n, err
}

// fileOf opens a file of an artifact of this sort, as often as it is asked.
func (e Evaluation) fileOf(ctx context.Context, digest lifecycle.Digest, name string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		root, err := e.open(ctx, lifecycle.ReportArtifact, digest)
		if err != nil {
			return nil, err
		}
		defer root.Close() // the open file lives on
		file, err := root.Open(name)
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Corrupt, "%s of %s: %w", name, digest.Short(), err)
		}
		return file, nil
	}
}

// parts keeps what a long step has got so far, some of it at a time, where every worker finds it: the machine of this
// one may be gone tomorrow with all that lies on its disk. Each is an artifact, so it is signed and checked as the whole is.
type parts[T any] struct {
	e     Evaluation
	as    linesOf // of the whole
	write func(io.Writer, []T) error
	read  func(io.Reader) ([]T, error)

	size    int // of a part; 0: as start says
	next    int // number of the next part
	last    time.Time
	pending []T
}

// have gives what is kept of tries before this one.
func (p *parts[T]) have(ctx context.Context) ([]T, error) {
	var list []T
	for ; ; p.next++ {
		kept, err := p.e.Registry.LatestArtifact(ctx, p.as.service, lifecycle.ReportArtifact, p.labels())
		if lifecycle.Is(err, lifecycle.NotFound) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		part, err := p.readFile(ctx, kept.Digest, partFile)
		if err != nil {
			return nil, lifecycle.Wrap(err, "read part %d", p.next)
		}
		list = append(list, part...)
	}
}

func (p *parts[T]) readFile(ctx context.Context, digest lifecycle.Digest, name string) ([]T, error) {
	file, err := p.e.fileOf(ctx, digest, name)()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return p.read(file)
}

// before gives what is there of earlier runs: of one that came to its end, and of one that was cut off.
func (p *parts[T]) before(ctx context.Context) ([]T, error) {
	list, err := p.have(ctx)
	if err != nil {
		return nil, err
	}
	kept, err := p.e.Registry.LatestArtifact(ctx, p.as.service, lifecycle.ReportArtifact, p.as.labels)
	if lifecycle.Is(err, lifecycle.NotFound) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	whole, err := p.readFile(ctx, kept.Digest, p.as.file)
	return append(list, whole...), err
}

// start says how much there is to do in all.
func (p *parts[T]) start(total int) {
	p.size, p.last = max(leastPart, (total+mostParts-1)/mostParts), time.Now()
}

// add notes what was got. What cannot be kept now is kept with the next part; the step goes on.
func (p *parts[T]) add(ctx context.Context, v T) {
	p.pending = append(p.pending, v)
	after := p.e.PartAfter
	if after == 0 {
		after = partAfter
	}
	if len(p.pending) < p.size || time.Since(p.last) < after {
		return
	}
	p.last = time.Now()
	as := p.as
	as.labels, as.file = p.labels(), partFile
	if _, err := p.keep(ctx, as, p.pending); err != nil {
		orDefault(p.e.Log).WarnContext(ctx, p.as.labels[reportLabel]+" are not kept yet for another worker", "error", err)
		return
	}
	p.next++
	p.pending = nil
}

// whole keeps all that there is to keep.
func (p *parts[T]) whole(ctx context.Context, list []T) (lifecycle.Digest, error) {
	return p.keep(ctx, p.as, list)
}

func (p *parts[T]) keep(ctx context.Context, as linesOf, list []T) (lifecycle.Digest, error) {
	digest, _, err := p.e.keepLines(ctx, as, func(w io.Writer) (int, error) { return len(list), p.write(w, list) })
	return digest, err
}

func (p *parts[T]) labels() map[string]string {
	labels := map[string]string{partLabel: strconv.Itoa(p.next)}
	for name, value := range p.as.labels {
		labels[name] = value
	}
	labels[reportLabel] += inParts
	return labels
}

// answerParts are the parts of one release's answers.
func (e Evaluation) answerParts(as linesOf, suite, release lifecycle.Digest) *parts[evaluation.Answer] {
	return &parts[evaluation.Answer]{
		e: e, as: as,
		write: func(w io.Writer, list []evaluation.Answer) error {
			return evaluation.Answers{Suite: suite, Release: release, List: list}.Write(w)
		},
		read: func(r io.Reader) ([]evaluation.Answer, error) {
			answers, err := evaluation.ReadAnswers(r)
			if err == nil && (answers.Suite != suite || answers.Release != release) {
				err = lifecycle.Errorf(lifecycle.Corrupt, "answers of release %s to suite %s", answers.Release.Short(), answers.Suite.Short())
			}
			return answers.List, err
		},
	}
}
