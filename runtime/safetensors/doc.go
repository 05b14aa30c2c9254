// Package safetensors reads and writes the safetensors format for float32 tensors: an 8-byte little-endian
// header length, a JSON header, then raw little-endian data. It knows nothing of models.
//
// Bounds: a header has at most 16 MiB, a file at most 4 GiB, a tensor at most 8 axes. Only F32 is written; F32,
// F16 and BF16 are read, the latter two widened. Offsets must cover the data without gap or overlap, as
// the format demands, so a cut or padded file is refused. What the file holds is not checked for NaN.
package safetensors
