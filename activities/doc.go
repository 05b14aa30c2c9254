// Package activities holds the steps that touch the world, one struct a loop: thin, from a workflow's
// step to the room that does it. A step may run again at any time, after a crash or a lost answer, so
// every one of them is idempotent: artifacts are named by digest, registry functions check their fence,
// jobs are submitted under a key.
//
// Workers binds the steps. Rooms of thought judge; what they judge is brought here as values.
package activities
