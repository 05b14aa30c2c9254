// Package score holds the scorers of suites: what one answer to one case is worth. It is a room of thought: equal
// input gives an equal score, and only the scorers that ask somebody else (a judge, a command) go out, through
// [World].
//
// # The contract
//
// A score is a finite number, larger is better, whatever is measured: perplexity, bits per byte, seconds and money
// are stored negated. A scorer that is marked binary gives 0 or 1. An error means that there is no score, and the
// case is an error for the gate; it is never a score of 0, and never a pass. A wrong answer is no error. Unavailable means
// that who scores was not there and asking again may help; every other kind, that asking again will give the same.
//
// Errors name settings, and never repeat what was asked, said or is right: they end in histories and logs.
//
// # The table
//
// [Table] lists every scorer with what it looks at, and the source of its definition. Each is held against values of
// the reference implementation, which its test names with the version; where there is none, against values worked out
// by hand from the stated definition.
//
// # Not promised
//
// What overlaps (token-f1, rouge-l, bleu, chrf) is looked for in the first 64 KiB of answer and reference. Overlap with a reference (F1, ROUGE, BLEU, chrF) and support by passages are about words, not about truth. A judge
// is a model: its scores are only as good as its agreement with people, which a suite's human labels can show.
package score
