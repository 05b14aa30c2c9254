// Package workflows holds the loops, one file a loop. A workflow reads like the runbook it automates:
// it decides by recorded results only and does nothing itself. No I/O, no floating point, no calendar,
// no clock but workflow.Now, no map order.
//
// Every exclusive loop opens the same way: decode its input strictly, answer the state Query, resolve
// the service's declaration once and pin it, and take the claim. A second run beside it ends as Busy.
// The claim is given back at every way out, on a disconnected context; a run that is terminated gives
// nothing back, and whoever comes next takes the claim over from the closed holder.
//
// Only workers imports this package. It knows lifecycle and steps.
package workflows
