// Package e2e holds the tests of Refit as people run it: the commands refit, refit-runtime and devstack as
// processes of their own, on a real stack, killed where it hurts. Nothing imports it.
//
// The commands are looked for in the folder REFIT_BIN, else in bin/ of the checkout; the stack is the one that
// REFIT_TEST_STACK names (`bin/devstack run -- go test ./internal/e2e`). Without one of them the tests are
// skipped and say what is missing. REFIT_CHAOS=1 adds the long ones; REFIT_CHAOS_SEED repeats a schedule of kills.
//
// # A test's world
//
// Every test owns a database, a Temporal namespace, a bucket, ports, folders and model servers, so that tests run
// side by side. What a model server served is counted by the server, which is another process than the one that
// decides; the checks of exposure rest on that count and on nothing that Refit says of itself.
//
// A test that kills at a boundary (between a verdict and the share that follows it, between a share and the gateways that
// follow it) does not hope to hit it: a gate in its database holds the change, or a wire what is heard of it, until the kill
// is done. Its invariants are read from the database and the model server.
//
// A test waits for conditions and fails with the last lines of every process's log. Where the contract itself is a
// time (the lease), the time is measured at the model server.
package e2e
