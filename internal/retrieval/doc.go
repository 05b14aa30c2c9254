// Package retrieval finds the passages of a corpus that answer a query: it cuts documents into chunks, builds an
// index over them, searches it by words and by meaning, fuses the two rankings, and measures how well it finds.
//
// It is a room of thought: documents come in as iter.Seq2, vectors from an [Embedder], files through a
// [Creator] and fs.FS. It opens nothing itself, knows no clock and no network. answer, activities and the
// gateway use it.
//
// # An index
//
// [Build] makes an index, [Index.Write] stores it as an artifact, [Open] reads it:
//
//	index.json    form, version, how it was built, and size and SHA-256 of the other files
//	chunks.jsonl  one chunk a line, the chunks of a document together
//	terms.bin     chunk lengths, then each term in byte order with its postings, all as uvarints
//	vectors.bin   one vector a chunk, float32 little-endian, of length 1 or 0; missing in a lexical index
//
// The same documents in the same order with the same vectors give the same bytes. An index is immutable and
// serves any number of searches at once.
//
// # Search
//
// By words: BM25 (Robertson and Zaragoza 2009) over tokens that know identifiers, see [Tokens]. By meaning: the
// inner product with every vector, exact, which takes a few milliseconds for 10,000 chunks. Fused by reciprocal
// ranks (Cormack, Clarke and Büttcher 2009). Equal scores are ordered by chunk, so the same search gives
// the same answer.
//
// # Bounds and promises
//
// An index lives in memory: text, postings of 8 bytes, vectors of 4 bytes a dimension. It is meant for up to some
// hundred thousand chunks; there is no approximate search. [Open] verifies every digest and every number; what
// does not fit is Corrupt, and it allocates no more than a small multiple of the bytes that are there. Its header
// is guarded by the artifact's manifest alone. A hybrid search whose embedder fails is an error: it never turns
// into a lexical one silently.
package retrieval
