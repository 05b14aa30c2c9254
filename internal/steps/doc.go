// Package steps is what workflows and activities agree on: for every loop the names, inputs and
// outputs of its steps, Updates and Queries, the workflow IDs and the classes of activity options.
//
// The SDK checks only the number of arguments; a struct of the wrong type arrives as its zero value.
// So a step is tied once to its types (Step), run by workflows (Run) and bound by workers (Bind), and
// the three cannot disagree without a compile error. Inputs that people write are decoded strictly
// (Decode). Names of steps stand in histories for ever: they outlive Go names, and inputs and outputs
// only ever gain optional fields.
//
// Workflows, activities, workers and control import it. It knows lifecycle and Temporal.
package steps
