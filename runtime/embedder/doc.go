// Package embedder learns and holds a small embedder of texts: the vector of a text is the sum of the vectors of its
// words, each by the square root of how often it comes, scaled to length 1. Words that the vocabulary lacks are spelt
// with pieces of three and four bytes that share buckets. Order of words plays no part.
//
// It learns from what documentation is made of: the first sentence of a document, without the symbol's name, asks, and
// the rest of it answers; a document of one sentence asks for its title. Vectors of a question and its answer are drawn
// together, those of the other pairs of a batch apart (InfoNCE in both directions; van den Oord, Li and Vinyals 2018,
// arXiv 1807.03748), with Adagrad for each row. So it learns which words matter and which of them mean the same here.
// It begins as a random projection of weighted words, which is what it stays where there is nothing to learn from.
//
// Files of an embedder folder: embedder.json (form, dimension, vocabulary), embedder.safetensors (the table, a row a
// word and a bucket), training.json (what was done). The same inputs and parameters give the same bytes on the
// same kind of processor and the same binary. An empty text, or one without a letter or digit, has the zero vector.
//
// Not promised: knowledge of a language, or of words that stand in no document. A killed training begins anew: it
// takes seconds.
package embedder
