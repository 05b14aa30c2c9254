package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// print writes the tables for people.
func (r Result) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SCENARIO\tPROXY\tPER CPU SECOND\tPER SECOND\tUNIT")
	for _, rate := range r.Rates {
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%s\n", rate.Scenario, rate.Proxy, rate.PerCPUSecond, rate.PerSecond, rate.Unit)
	}
	fmt.Fprintln(w, "\t\t\t\t")
	fmt.Fprintln(w, "SCENARIO\tREFIT GATEWAY\tMEDIAN\tLOW TO HIGH\tGOAL")
	for _, row := range r.Rows {
		goal := row.Goal
		if goal != "" && !row.Reached {
			goal += ", missed"
		}
		fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f to %.2f\t%s\n", row.Scenario, row.Measure, row.Value, row.Low, row.High, goal)
	}
	_ = w.Flush() // the terminal is all there is to write to
	for _, line := range r.LeftOut {
		fmt.Fprintln(out, "left out:", line)
	}
}
