// Package compute runs GPU jobs. Engine is the one contract; Local runs jobs as processes of this machine.
// Activities submit and observe through it; cmd calls ShimMain for the hidden command `refit job-shim`.
//
// # What a job meets
//
// Its environment is PATH, HOME and TMPDIR (a private folder), what the engine's settings add, and:
//
//	REFIT_SPEC         a file {"parameters": ...}, decoded strictly by the job
//	REFIT_INPUTS       a folder with one folder per named input, not to be written
//	REFIT_OUTPUTS      a folder; the job makes one folder per declared output, complete when it exits 0
//	REFIT_CHECKPOINTS  a folder that all tries of the run share
//	REFIT_PROGRESS     a file; one JSON line per report (lifecycle.Progress), one write per line
//
// Exit 0 is done, 75 try again from the last checkpoint, 64 the spec is wrong. On SIGTERM a job writes a
// checkpoint and exits 75. Exit 0 with a declared output missing or empty is a failure.
//
// # The local engine
//
// Every try has a shim: a process in a session of its own that outlives whoever submitted it. The shim holds a
// kernel lock for as long as it lives, waits for a slot, starts the job, and writes what happened to a state file
// by atomic rename. States go queued, running, and then one that is final; a final state is never written again.
//
//	submit ─ queued ─ running ─ succeeded | retry | rejected | failed | canceled
//	            └────────┴───── lost (lock free, state not final: the shim was killed, or the machine restarted)
//
// The lock, not a process ID, says that a shim lives: the kernel frees it on any death, and no other process
// can be mistaken for it. A job dies with its shim (parent death signal); whoever notices a lost try first kills
// what is left of its session, and only then calls it lost. So two tries of one run never run at once: Submit
// of a newer try is Busy while an older one has not ended.
//
// A slot is a locked file whose lock the job inherits: it is free only when the shim and every process of the job
// that kept it open are gone. A canceled or overdue job gets SIGTERM, and SIGKILL after the grace time; so does what
// a job leaves running when it ends. The state becomes final when the session is empty.
//
// # What is not promised
//
// Inputs are hard links to the files that were given (copies on another file system): a job that writes to one in
// place damages the original, which who loads it next has to notice by its digest. Waiting tries get slots in no order. Resources are not enforced, and logs not cut. A process that leaves the
// session by setsid is not followed. A service manager that kills a whole control group kills shims, too: run the
// worker with KillMode=process, or its shims in a scope. The root folder must lie on a local Linux file system.
// "I cannot reach the engine" (Unavailable) is never reported as a job's end.
package compute
