// Package serving brings a release's weights onto model servers and says where they answer.
// Activities load and unload releases through it; nothing else imports it.
//
// # Contract
//
// An Engine loads a Placement and returns the endpoints that serve it. Load is idempotent: it ensures.
// What is already loaded and answers is only looked at; what died is started again. Weights are served under
// a name of their own (lifecycle.ServedName), so a server without them answers 404 instead of something else,
// and Load returns an endpoint as ready only after the server itself listed that name.
//
// # The local engine
//
// One model server process per weights and embedder, of the reference runtime (`refit-runtime serve`). An embedder
// may be placed alone, before there is any model (EmbedderAlone): the server is then given no --model. The
// process leads a session of its own and outlives the worker that started it. States of one server, by name:
//
//	absent    no process carries the server's mark
//	starting  the process lives, its address or name list is not there yet
//	ready     /v1/models lists the names, warm-up requests were answered
//	dead      a state file is there, its process is not; Load starts another, Unload forgets it
//
// A lock file per name makes Load and Unload exclude each other over all processes of the machine. A process is
// known by pid, start time and boot ID together, so a reused pid is never taken for it; one whose state
// file was never written (the worker was killed in between) is found by the mark in its environment. So
// there are never two servers for one name.
//
// Not promised: survival of a reboot (Load starts the server again), memory or GPU limits, adapters, more than
// one machine. Under systemd a worker's children die with the worker's unit unless it is started with
// KillMode=process.
//
// # The static engine
//
// Servers that somebody else runs. Load asks each for its list of models. A server that lists the release's own
// served name is verified. One that is asked by another name cannot tell which release answered: it is
// unverified, and refused where the service requires attribution.
package serving
