// Package demo drives one foundation model once around its life, as its users and its operators do: through the
// control API, the gateway and the Temporal UI's HTTP API. It decides nothing that Refit decides. It brings the
// traffic (Traffic), counts from the model servers' side who served it (Meter), and writes down what was measured
// (Summary). cmd/refit-demo runs it for `make demo`; the end-to-end test runs it with smaller settings.
//
// # A run
//
// A run is a list of stages. What each one found out is kept in demo/state.json of the data folder as soon as it is
// through, so a run that failed or was stopped goes on at that stage next time, with everything left as it was:
// logs, workflows, model servers, `refit up`. A run after one that is through starts anew with a service of the next
// name (docs-assistant-2), beside the old one.
//
// # What it claims
//
// Every number in the summary was measured by somebody who does not decide on it, or is the verdict of who decides,
// marked as such. What was not measured is null, never 0. The summary is written when every stage is through, so
// a summary that is there is whole. A stage that did not show what it is there to show fails the run: a gate that let
// the forgetful model pass is a fault, not a line in a summary.
package demo
