// Package text reads dataset folders: train/*.jsonl and heldout/*.jsonl with one document a line.
//
// Bounds: a line has at most 16 MiB. Files are read in the order of their names, lines in their order, so that the same
// dataset gives the same stream. A broken line, an ID seen before, an empty ID or text, or what is not UTF-8
// is an error with file and line number: training on half of a dataset would be worse than not training.
package text
