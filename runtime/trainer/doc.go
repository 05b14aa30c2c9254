// Package trainer pre-trains the reference model from random weights or continues from a base model: forward pass and
// gradients are GoMLX graphs, AdamW goes over them.
//
// A run is a pure function of its spec and inputs: the data of step n depends on the seed and n only, the batch is cut into
// a fixed number of slices whose gradients are added in a fixed order, and one slice is computed on one thread. So a run
// that was killed at any moment and continues from its newest checkpoint ends with the same bits, on the same kind
// of processor and the same binary, whatever the number of cores. Between processors, or between a build with
// SIMD and one without, results differ in rounding; this is not promised away.
//
// States of a run: no checkpoint (start, from step 0) → checkpoint at step n (continue) → model written (done).
// A checkpoint holds weights, both moments and the step; it is written under another name, synced and renamed, and
// carries a digest of its content and the fingerprint of spec and inputs: a checkpoint of another run is refused. The
// last two are kept; if the newest is not whole, the one before is used, and if neither is, the job fails rather than
// silently starting anew.
// Bound: a kill loses at most CheckpointEvery steps.
package trainer
