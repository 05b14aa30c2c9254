package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// view prints what a workflow does: a line when it says something new, and a bar while something advances.
// Where nobody watches a terminal the bar is a line now and then.
type view struct {
	out      io.Writer
	terminal bool
	said     map[string]string // by what it is about: the newest line
	barred   bool              // a bar stands on the current line
	barAt    time.Time
}

// barEvery is how often a bar becomes a line of its own where there is no terminal.
const barEvery = 15 * time.Second

func newView(out io.Writer) *view {
	v := &view{out: out}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		v.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return v
}

func (v *view) show(now control.Watched) {
	if s := now.State; s != nil {
		line := s.Phase
		if s.Reason != "" {
			line += ": " + s.Reason
		}
		v.say("state", line)
	}
	for _, r := range now.Retries {
		v.say(r.Step, fmt.Sprintf("  %s failed and is tried again (attempt %d): %s", r.Step, r.Attempt, r.Failure))
	}
	switch {
	case now.Progress != nil:
		v.bar(jobBar(*now.Progress))
	case now.State != nil && now.State.Rollout != nil:
		v.bar(rolloutBar(*now.State.Rollout, now.Touched))
	}
}

// say prints a line unless it is what was said of the same thing last.
func (v *view) say(about, line string) {
	if v.said[about] == line {
		return
	}
	v.end()
	if v.said == nil {
		v.said = map[string]string{}
	}
	v.said[about] = line
	fmt.Fprintln(v.out, line)
}

func (v *view) bar(line string) {
	switch {
	case v.terminal:
		fmt.Fprintf(v.out, "\r  %s\x1b[K", line)
		v.barred = true
	case time.Since(v.barAt) >= barEvery:
		fmt.Fprintln(v.out, "  "+line)
		v.barAt = time.Now()
	}
}

func (v *view) end() {
	if v.barred {
		fmt.Fprintln(v.out)
		v.barred = false
	}
}

func drawn(done, total int64) string {
	const width = 30
	n := 0
	if total > 0 {
		n = int(max(0, min(done, total)) * width / total)
	}
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", width-n) + "]"
}

// jobBar: step, loss, tokens a second and the time left at the present pace.
func jobBar(p lifecycle.Progress) string {
	line := fmt.Sprintf("%s %d/%d", drawn(p.Step, p.Total), p.Step, p.Total)
	if p.Loss > 0 {
		line += fmt.Sprintf("  loss %.3f", p.Loss)
	}
	if p.TokensPerS > 0 {
		line += fmt.Sprintf("  %.0f tokens/s", p.TokensPerS)
		if p.Step > 0 && p.Tokens > 0 {
			perStep := float64(p.Tokens) / float64(p.Step) / p.TokensPerS
			left := time.Duration(perStep * float64(p.Total-p.Step) * float64(time.Second))
			line += "  " + left.Round(time.Second).String() + " left"
		}
	}
	return line
}

// rolloutBar: steps that are behind, the share, and what the canary answered in the whole rollout.
func rolloutBar(r steps.PromotionState, touched *lifecycle.Touched) string {
	line := fmt.Sprintf("%s step %d of %d at %s", drawn(int64(len(r.Done)), int64(r.StepsTotal)), r.Step+1, r.StepsTotal, r.Share)
	if touched != nil {
		line += fmt.Sprintf("  canary so far: %d conversations, %d requests", touched.Conversations, touched.Requests)
	}
	if r.Paused {
		line += "  paused"
	}
	if r.AwaitsApproval {
		line += "  waits for approval"
	}
	return line
}
