package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// view prints what a workflow does: a line when it says something new, and a bar while a job runs.
type view struct {
	out  io.Writer
	last string
	bar  bool // a bar stands on the current line
}

func (v *view) show(now control.Watched) {
	if s := now.State; s != nil {
		v.say(s.Phase + ": " + s.Reason)
	}
	for _, r := range now.Retries {
		v.say(fmt.Sprintf("  %s failed and is tried again (attempt %d): %s", r.Step, r.Attempt, r.Failure))
	}
	if now.Progress != nil {
		fmt.Fprintf(v.out, "\r%s\x1b[K", progressBar(*now.Progress))
		v.bar = true
	}
}

func (v *view) say(line string) {
	if line == v.last {
		return
	}
	v.end()
	v.last = line
	fmt.Fprintln(v.out, line)
}

func (v *view) end() {
	if v.bar {
		fmt.Fprintln(v.out)
		v.bar = false
	}
}

// progressBar: step, loss, tokens a second and the time left at the present pace.
func progressBar(p lifecycle.Progress) string {
	const width = 30
	done := 0
	if p.Total > 0 {
		done = int(min(p.Step, p.Total) * width / p.Total)
	}
	line := fmt.Sprintf("  [%s%s] %d/%d", strings.Repeat("=", done), strings.Repeat(" ", width-done), p.Step, p.Total)
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
