package main

import (
	"fmt"
	"io"
	"os"
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
		v.bar(now.Progress.Line())
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

// rolloutBar: steps that are behind, the share, and what the canary answered in the whole rollout.
func rolloutBar(r steps.PromotionState, touched *lifecycle.Touched) string {
	if r.Share == 0 && (r.Shadowing > 0 || r.Shadow != nil) {
		return shadowBar(r)
	}
	line := fmt.Sprintf("%s step %d of %d at %s", lifecycle.Bar(int64(len(r.Done)), int64(r.StepsTotal)), r.Step+1, r.StepsTotal, r.Share)
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

// shadowBar stands before the first share.
func shadowBar(r steps.PromotionState) string {
	line := fmt.Sprintf("shadow step, copies of %s of requests", r.Shadowing)
	if r.Shadow != nil {
		line = "shadow step is over: " + shadowLine(r.Shadow.Verdict)
	}
	if r.Paused {
		line += "  paused"
	}
	if r.AwaitsApproval {
		line += "  waits for approval"
	}
	return line
}
