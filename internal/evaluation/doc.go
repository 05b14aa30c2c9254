// Package evaluation holds suites, scorers, the paired comparison and the gate. It is a room of thought:
// what a release says comes in through [Completer] and [Searcher], files through fs.FS and io.Reader, and
// equal input gives equal output. Activities and tests use it.
//
// # A suite
//
// A suite is a tree: suite.json names the capabilities with their metric and margin, cases.jsonl holds one
// case a line. Cases have stable IDs and a group: cases of one group (one source of text) are not
// independent and count as a cluster. [Build] makes suites from held-out documents; the same documents and
// seed give the same bytes.
//
// # Scores
//
// Every score is oriented so that larger is better. Accuracy and recall are 0 or 1 a case. Bits per byte
// are stored negated: -2.1 is a model that needs 2.1 bits for a byte; reports print 2.1 and say that less is
// better.
//
// # The gate
//
// [Judge] compares candidate and baseline on the same cases and asks two questions per capability. Pass:
// is it proven that the drop is smaller than the margin? Regress: is a drop proven at all? For scores of 0
// or 1 the pass question is Tango's score test and the drop question McNemar's exact test, both on counts
// divided by the design effect where cases are clustered (Rao and Scott); for other scores the lower of the
// BCa limit over resampled clusters and the t limit, and the t test on cluster totals. Pass takes 5% in each
// capability, because all must pass; regress takes 5% over all capabilities (Holm). Neither is
// underpowered. In all: error if any error, else regress if any, else pass if all pass, else underpowered.
//
// A missing answer, a missing capability, a number that is none, answers to another suite or of another
// release are error, never pass. Without a baseline nothing can be compared: the first release passes when
// every case was answered, and the verdict says so.
//
// # Not promised
//
// A gate says nothing about cases that the suite does not hold. With few clusters (under 15, for scores
// under 50) limits are not to be trusted and the capability is underpowered.
package evaluation
