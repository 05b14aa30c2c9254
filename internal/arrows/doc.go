// Package arrows guards who may import whom. The test reads every package of the module with
// `go list`, holds its imports against one table, and names each arrow that nobody decided. A package
// without a row fails: a new room, like a new arrow, is a decision.
package arrows
