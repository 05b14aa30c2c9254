// Package workflows holds the loops, one file a loop. A workflow reads like the runbook it automates:
// it decides by recorded results only and does nothing itself. No I/O, no floating point, no calendar,
// no clock but workflow.Now, no map order.
//
// Every exclusive loop opens the same way: decode its input strictly, answer the state Query, resolve
// the service's declaration once and pin it, and take the claim. A second run beside it ends as Busy.
// Every loop closes the same way, at every way out and on a disconnected context: it names how it ended,
// gives the claim back, and ends when all that people sent is answered. A run that is terminated gives
// nothing back, and whoever comes next takes the claim over from the closed holder.
//
// What people may do to a promotion: abort it at any time until its way out is decided; pause and resume
// its steps, which holds the share as it is and keeps the next change of what serves waiting; approve or
// reject a step that waits; break the glass, so that it goes on in a freeze. Each is refused by a pure validator where it cannot be meant, done once a name
// and key, and written to the ledger.
//
// A freeze refuses a promotion's start, or lets it wait where the input says so, and holds its share as a pause does.
// Whether something is frozen is a recorded answer; runs from before freezes were known (GetVersion "freezes-hold") ask
// nobody. Likewise a plan that cannot end in time refuses the start ("rollouts-planned"), and is a recorded answer.
//
// A rollout whose declaration says so begins with a shadow step ("shadow-first"), in which nobody is shown what the
// candidate says. It is held as a share is, with a lease; a pause stops its clock; no freeze holds it, because it changes
// nothing that serves, and the first share waits for approval and thaw after it.
//
// No loop continues as new, because none grows: a promotion's step is one long activity and costs about 20
// events however long it lasts, what a person does costs about 20, a try of a job about 13, a batch of a
// suite's cases about 6, and tries and batches are bounded. The server takes 2,000 Updates of one run and 51,200 events, so a run cannot outgrow its history.
// A loop that comes to renew something by timers has to continue as new, after its handlers are drained.
//
// Histories that a real server recorded are replayed in the tests; see testdata/README.md.
//
// Only workers imports this package. It knows lifecycle and steps.
package workflows
