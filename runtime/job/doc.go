// Package job is the side of the job contract that runs inside a job: where the spec, inputs, outputs and checkpoints
// are, how progress is reported, and what an exit code says.
//
// Environment: REFIT_SPEC (spec.json), REFIT_INPUTS, REFIT_OUTPUTS, REFIT_CHECKPOINTS (folders), REFIT_PROGRESS (a file
// that gets one JSON line per report, appended with one write each). Exit codes: 0 done, 64 the spec or an
// input is wrong and a retry cannot help, 75 try again from the last checkpoint, 1 anything else.
//
// Not promised: that a line of progress was written for every step. Steps after the last checkpoint are reported again
// by the next try.
package job
