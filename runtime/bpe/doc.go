// Package bpe is a byte-level byte-pair encoding: learned from text, stored as a Hugging Face tokenizer.json
// (model BPE with the ByteLevel pre-tokenizer and decoder), and able to encode and decode any bytes without loss.
//
// Text is cut into words by GPT-2's rule (contractions, letters with one leading space, numbers, other signs, white
// space), then each word's bytes are merged by rank. Only files of this kind are read: another normaliser,
// pre-tokenizer, post-processor or model in tokenizer.json is refused, because ignoring it would encode
// differently from other readers. The one special token, <|endoftext|>, has the ID 0 and is never produced from text.
//
// A Tokenizer is immutable and may be shared.
package bpe
