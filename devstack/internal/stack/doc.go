// Package stack runs the one-machine stack as a whole: it starts PostgreSQL, Temporal and S3 in that order, writes
// the stack file when all are ready, watches them, and stops them in the opposite order.
//
// A stack is served by one process (Serve), which Start sets up as a session of its own and Stop ends. States of
// a data folder:
//
//	stopped    nobody holds the lock, no postmaster runs
//	starting   the lock is held, there is no stack file of the holder
//	ready      the lock is held and the stack file names its holder
//	orphaned   nobody holds the lock but the postmaster runs: the serving process was killed; Start adopts it
//
// A postmaster that ends by itself is started again. When S3 ends by itself the whole stack stops with an
// error. Not promised: more than one stack in a process, a stack that survives a restart of the machine (Start
// brings it up again with its data).
package stack
