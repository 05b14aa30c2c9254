package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/refitml/refit/internal/control"
)

// barEvery is how often progress gets a line of its own where no line can be written over.
const barEvery = 10 * time.Second

// view tells people what the run does.
type view struct {
	out    io.Writer
	wide   bool // the last line may be written over
	last   string
	barred bool // a bar stands on the last line
	barAt  time.Time
	live   func() string // what goes on beside a workflow, for the bar; nil: nothing
}

// say prints a line below the stage's heading.
func (v *view) say(format string, arguments ...any) {
	v.end()
	fmt.Fprintf(v.out, "      %s\n", fmt.Sprintf(format, arguments...))
}

func (v *view) heading(number, of int, what string) {
	v.end()
	v.last = ""
	fmt.Fprintf(v.out, "\n[%*d/%d] %s\n", len(fmt.Sprint(of)), number, of, what)
}

// show tells how a workflow stands: a line when it says something new, and a bar while a job runs.
func (v *view) show(now control.Watched) {
	if s := now.State; s != nil {
		line := s.Phase
		if s.Reason != "" {
			line += ": " + s.Reason
		}
		if line != v.last {
			v.say("%s", line)
			v.last = line
		}
	}
	switch {
	case now.Progress != nil:
		v.bar(now.Progress.Line())
	case v.live != nil:
		v.bar(v.live())
	}
}

func (v *view) bar(line string) {
	switch {
	case v.wide:
		fmt.Fprintf(v.out, "\r      %s\x1b[K", line)
		v.barred = true
	case time.Since(v.barAt) >= barEvery:
		fmt.Fprintf(v.out, "      %s\n", line)
		v.barAt = time.Now()
	}
}

// end leaves the bar where it is.
func (v *view) end() {
	if v.barred {
		fmt.Fprintln(v.out)
		v.barred = false
	}
}
