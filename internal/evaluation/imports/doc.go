// Package imports turns what other evaluation tools write into cases of suites, and into answers where a file holds them.
// It is a room of thought: io.Reader in, values out, and nothing is fetched.
//
// # Formats
//
//	jsonl      one {"input": text or chat, "ideal": text or texts} a line, as OpenAI evals has its samples; only the
//	           format as it is documented was at hand
//	lm-eval    samples_TASK_*.jsonl of lm-evaluation-harness --log_samples; tested on files that 0.4.13 wrote
//	inspect    logs of Inspect, .json and .eval (a zip of JSON); tested on logs that inspect_ai 0.3.285 wrote
//	promptfoo  results that promptfoo eval --output FILE.json writes; tested on a file that 0.121.20 wrote
//
// # What is kept
//
// A task becomes a capability, an item a case with the ID it has there. What an item is compared with becomes the
// references, and the tool's metric the scorer that is most like it. Answers are scored by that scorer anew, so they
// can be compared with what gates give; how many scores differ from the tool's is told. What cannot be carried over is
// told in [Result.Notes], never dropped silently: an item of which nothing can be asked makes no case, and a file that
// gives no case at all is Invalid.
//
// # Bounds
//
// A file holds at most 256 MiB, a line 8 MiB; a zip at most 100,000 entries of 64 MiB and 1 GiB in all, unpacked. Files are
// other people's: what does not read is an error that names line or entry, and never repeats its text.
package imports
