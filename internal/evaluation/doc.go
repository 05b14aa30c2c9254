// Package evaluation holds suites, scorers, the paired comparison and the gate. It is a room of thought:
// what a release says comes in through [Completer] and [Searcher], files through fs.FS and io.Reader, and
// equal input gives equal output. Activities and tests use it.
//
// # A suite
//
// A suite is a tree: suite.json names the capabilities with how they are asked and scored and their margin, cases.jsonl
// holds one case a line. Cases have stable IDs and a group: cases of one group (one source of text) are not
// independent and count as a cluster. [Build] makes suites of version 1 from held-out documents; the same documents and
// seed give the same bytes. Package form reads suites of version 2 as people write them. Both are read here.
//
// A case belongs to one of two splits, and all cases of its group with it: gate, which only gates ask, and search,
// which variants may be tried against and which gates refuse. Every capability has cases that gates ask.
//
// A weight is a whole number w: the case counts as w cases of one group that are all answered alike. A capability's
// score is the mean weighted so; the statistics take each group's weighted total as one observation, so a weight moves
// the mean, and adds no evidence. Samples of one case are one cluster likewise.
//
// # Scores
//
// Every score is oriented so that larger is better. Accuracy and recall of built suites are 0 or 1 a case. Bits per
// byte, and what a scorer says is better when it is less, are stored negated: -2.1 is a model that needs 2.1 bits for a
// byte; reports print 2.1 and say that less is better. Package score holds the scorers.
//
// A scorer that compares the answers of two releases gives none by itself: [CompareAll] lets its judge compare both
// sides' answers to a case, in both orders. The candidate's score is 1, 0.5 or 0, the baseline's what is left of 1.
//
// # Labels of people
//
// Where people have judged answers to a suite's cases, [LabelAll] lets its scorers judge them, too, and the report says how far
// both agree ([Agreement]). Where the suite asks for an agreement, a capability is an error whose scorer was not shown to have it.
//
// # The gate
//
// [Judge] compares candidate and baseline on the same cases and asks two questions per capability. Pass:
// is it proven that the drop is smaller than the margin? Regress: is a drop proven at all? For scores of 0
// or 1 the pass question is Tango's score test and the drop question McNemar's exact test. Where cases are grouped or
// asked repeatedly both take counts divided by the design effect (Rao and Scott), Tango's at the level of t with groups
// - 1 degrees of freedom, and t over groups must agree; where some groups differ and fewer than 15, a group counts as one case. For other scores: the lower of the BCa limit over resampled
// groups and the t limit, and the larger p-value of both. Where the suite or the policy asks for exact limits: betting
// on groups, for any scores between 0 and 1. Pass takes 5% in each capability, because all must pass; regress takes 5%
// over all capabilities (Holm). Neither is underpowered. In all: error if any error, else regress if any, else pass if
// all pass, else underpowered.
//
// A case that was asked repeatedly counts as one case with its mean score, on either side. Cases whose scores differ
// between samples of one release are flaky: the report names them, and what is left of their changing is in the limits.
//
// A missing answer, an answer that could not be scored, a missing capability, a number that is none, answers to another suite or of another
// release are error, never pass. Without a baseline nothing can be compared: the first release passes when
// every case was answered, and the verdict says so.
//
// [JudgeFiles] is Judge on files, read side by side; [Offline] compares two files of answers that are nobody's gate. A
// [Report] explains a verdict as Markdown and JSON, with what the gate could have seen; [JUnit] gives a verdict to CI.
//
// # Not promised
//
// A gate says nothing about cases that the suite does not hold. With few clusters (under 15, for scores
// under 50) limits are not to be trusted and the capability is underpowered. docs/gate.md says what was simulated.
package evaluation
