package lifecycle

import (
	"fmt"
	"strings"
	"time"
)

// Bar draws done of total in 30 characters between brackets. A total of 0 is an empty bar.
func Bar(done, total int64) string {
	const width = 30
	n := 0
	if total > 0 {
		n = int(max(0, min(done, total)) * width / total)
	}
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", width-n) + "]"
}

// Line is a job's progress for a terminal: bar, step, loss, tokens a second and the time left at the present pace.
func (p Progress) Line() string {
	line := fmt.Sprintf("%s %d/%d", Bar(p.Step, p.Total), p.Step, p.Total)
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
