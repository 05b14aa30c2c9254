// Package corpus turns text that lies about into a dataset that may be trained on: it reads documents, cleans
// them, drops what is broken, secret, double or known to the evaluation, and says in a data card what it did and
// why. Bad data sets a ceiling that no prompt lifts, so a corpus that is refused here never reaches a GPU.
//
// It is a room of thought: data comes in as fs.FS and iter.Seq2 and goes out through a [Creator]. It opens no
// file, knows no clock and no network. Activities use it.
//
// # Way of a document
//
//	read       GoPackages, Folder, Read: one document per symbol, section or line
//	clean      Clean: UTF-8, NFC, control characters, white space
//	judge      Check: encoding, emptiness, quality, secrets, decontamination, exact and near duplicates
//	split      by a hash of ID or source: the same document is held out in every build
//	write      Write: data-card.json, train/*.jsonl, heldout/*.jsonl
//
// The same documents in the same order with the same policy give the same dataset, byte for byte.
//
// # Bounds
//
// [Check] holds what it keeps in memory, with a signature of 512 bytes a document: 50,000 documents of 1 kB take about
// 100 MB. A Go or text file may have 8 MiB, a line of a dataset 16 MiB.
//
// # Not promised
//
// Secrets are found by their known forms and by the entropy of what is assigned to a telling name; one without
// a form is not seen. Near duplicates are found by sketches: of pairs whose word shingles agree at 0.9 one in
// 10,000 is missed, at 0.8 one in 20, and some pairs a little under 0.8 are dropped. Relevance pairs made by
// [Pair] measure the finding of documentation by its own summary, not by people's questions.
package corpus
