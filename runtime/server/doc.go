// Package server answers the OpenAI API with reference models and embedders: chat, completions, embeddings, the list
// of models, health and metrics.
//
// # Prompts
//
// A model this small follows no instructions, so its chat template is plain: the contents of all messages, joined by
// line breaks. No token is put before a prompt, as tokenizer.json says; an empty prompt begins at the end-of-text
// token. A prompt that does not fit is cut at its beginning for generation: it keeps the context less the tokens asked
// for, and at least half of the context; usage counts what was read. Generation ends where the context does.
//
// # Scores
//
// Completions with echo and logprobs give the log probability of each token of the prompt after the first, given the
// ones before it. A prompt longer than the context is read in windows that overlap by half, so each token is judged by
// at least half a context; nothing is left out. More than [Config.MaxScored] tokens are refused.
// Log probabilities are the model's own, before temperature and top_p. Offsets count characters of the choice's text; a
// token that begins inside a character has that character's offset.
//
// # What is counted
//
// refit_runtime_requests_total counts every request by served name, endpoint and outcome: ok, canceled (the client went
// away), error, rejected (too busy), invalid, not_found (without a name, because names that clients make up would
// fill the memory). A request is counted, and has its line in the access log, before the last bytes of its answer leave. Only
// admitted requests (ok, canceled, error) have a line: who asked what of which model, with counts and times; never a
// prompt or an answer.
//
// # Not promised
//
// Parameters that would change an answer and are not known here (penalties, logit_bias, top_k, tools, ...) are refused
// and not ignored, unless they have their neutral value. Requests are computed one by one and not in batches.
package server
