// Package llama holds the reference model: a small decoder-only transformer of the Llama family (RMSNorm, rotary
// positions, grouped-query attention, SwiGLU, tied embeddings), its files, and a forward pass in plain Go.
//
// Files of a model folder, readable by Hugging Face's LlamaForCausalLM: config.json, tokenizer.json,
// model.safetensors. Load checks every name and shape against the config; nothing missing is filled in.
//
// A Model is immutable after Load and may be shared. A Session holds one sequence's key and value cache and
// belongs to one goroutine. The forward pass equals the trainer's graph to 1e-4 in each logit (tested there);
// bitwise equality between the two is not promised.
package llama
