package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// text is the summary for people.
func (r *run) text(took time.Duration) string {
	s := r.state.Summary
	var out strings.Builder
	fmt.Fprintf(&out, "== summary of %s\n\nreleases\n", r.service.Name)
	rows := [][]string{}
	for _, l := range s.Releases {
		rows = append(rows, []string{"  " + l.Name, l.Release.Short(), l.Fate, clip(l.Reason, 90)})
	}
	columns(&out, rows)
	out.WriteString("\nthe candidate's gate, side by side\n")
	rows = [][]string{indent(scoreHeader())}
	for _, l := range s.Scores {
		rows = append(rows, indent(scoreRow(l)))
	}
	columns(&out, rows)
	h, x := s.Retrieval.Hybrid, s.Retrieval.Lexical
	fmt.Fprintf(&out, "\nretrieval over %d queries: hybrid recall@5 %.3f, nDCG@10 %.3f; lexical alone %.3f, %.3f\n",
		r.state.Index.Queries, h.RecallAt5, h.NDCGAt10, x.RecallAt5, x.NDCGAt10)
	out.WriteString("\ncanary steps (share counted at the model servers)\n")
	rows = [][]string{{"  allowed", "reached", "highest window", "conversations", "verdict", "reason"}}
	for _, l := range s.Steps {
		rows = append(rows, []string{
			"  " + l.Allowed.String(), bp(l.Reached), bp(l.HighestWindow), fmt.Sprint(l.Conversations), string(l.Verdict), clip(l.Reason, 80),
		})
	}
	columns(&out, rows)
	fmt.Fprintf(&out, "\nrefused at the gate   %s: %s\n", s.Refused.Release.Short(), clip(strings.Join(s.Refused.Reasons, "; "), 120))
	fmt.Fprintf(&out, "rolled back live      %s after %d conversations: %s\n", s.RolledBack.Release.Short(), s.RolledBack.Conversations, clip(s.RolledBack.Reason, 120))
	fmt.Fprintf(&out, "second promotion      Busy: %s holds the claim\n", s.Busy.Holder)
	fmt.Fprintf(&out, "feedback              %d up, %d down; dataset %s\n", s.Feedback.ThumbsUp, s.Feedback.ThumbsDown, s.Feedback.Dataset.Short())
	out.WriteString("\ntraining data held against the suites\n")
	rows = [][]string{}
	for _, l := range s.Screens {
		rows = append(rows, []string{"  " + l.Job, fmt.Sprintf("%d of %d documents held one of %d cases and were taken out", l.Removed, l.Documents, l.Cases), "report " + l.Report.Short()})
	}
	columns(&out, rows)
	out.WriteString("\ntimings\n")
	rows = [][]string{}
	for _, name := range append(stageNames(), "total") {
		rows = append(rows, []string{"  " + name, fmt.Sprintf("%.1f s", s.Timings[name])})
	}
	columns(&out, rows)
	out.WriteString("\naddresses\n")
	rows = [][]string{}
	for _, name := range slices.Sorted(maps.Keys(s.Addresses)) {
		rows = append(rows, []string{"  " + name, s.Addresses[name]})
	}
	columns(&out, rows)
	fmt.Fprintf(&out, "\nThe same in %s; this run took %s. A model this small does not follow prompts: what is claimed is what was measured.\n",
		r.settings.SummaryFile, seconds(took))
	fmt.Fprintf(&out, "`refit up`, the model servers and the stack go on running; `make down` stops them.\n")
	return out.String()
}

func indent(row []string) []string {
	return append([]string{"  " + row[0]}, row[1:]...)
}

func stageNames() []string {
	names := []string{"stack"}
	for _, s := range stages() {
		names = append(names, s.name)
	}
	return names
}

func columns(out *strings.Builder, rows [][]string) {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // to memory
}
