// Package corpus turns text that lies about into a dataset that may be trained on: it reads documents, cleans
// them, drops what is broken, secret or double, finds what is known to the evaluation, and says in a data card what it did and
// why. Bad data sets a ceiling that no prompt lifts, so a corpus that is refused here never reaches a GPU.
//
// It is a room of thought: data comes in as fs.FS and iter.Seq2 and goes out through a [Creator]. It opens no
// file, knows no clock and no network. Activities use it.
//
// # Way of a document
//
//	read       GoPackages, Folder, Read: one document per symbol, section or line
//	clean      Clean: UTF-8, NFC, control characters, white space
//	judge      Check: encoding, emptiness, quality, secrets, exact and near duplicates
//	split      by a hash of ID or source: the same document is held out in every build
//	write      Write: data-card.json, train/*.jsonl, heldout/*.jsonl
//	screen     Screen: does it hold a case of a suite? asked before every training, because suites come and go;
//	           Rewrite writes the dataset without the documents that do
//
// The same documents in the same order with the same policy give the same dataset, byte for byte.
//
// # Bounds
//
// [Check] holds what it keeps in memory, with a signature of 512 bytes a document: 50,000 documents of 1 kB take about
// 100 MB. A Go or text file may have 8 MiB, a line of a dataset 16 MiB. A [Screen] holds 18 MB for 1,000,000 n-grams of
// suites, some 750 bytes for each of their texts, and one document at a time; it reads 30 to 55 MB/s (BenchmarkScreen on
// one core of an EPYC).
//
// # Not promised
//
// Secrets are found by their known forms and by the entropy of what is assigned to a telling name; one without
// a form is not seen. Near duplicates are found by sketches: of pairs whose word shingles agree at 0.9 one in
// 10,000 is missed, at 0.8 one in 20, and some pairs a little under 0.8 are dropped. Relevance pairs made by
// [Pair] measure the finding of documentation by its own summary, not by people's questions.
//
// A [Screen] does not see a case that was translated, or rewritten so that neither 13 words in a row are left nor 0.7 of
// the shingles of a document, paragraph or line; nor one of under 8 words, which it counts. It excuses nothing:
// phrases that stand in many documents (Brown et al. left out n-grams of over 10) hit like any other, because what stands in
// many documents is what a model knows best.
package corpus
