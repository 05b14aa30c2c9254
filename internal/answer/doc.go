// Package answer is the path of an answer: retrieve, assemble, call, post-process. The gateway runs it
// for users and the gate runs the same code for its cases, so what was tested is what is met.
//
// # The path
//
//	retrieve      the release's index is searched with the last user text (chat only)
//	assemble      the client's JSON is spliced, never marshalled again: only what Refit owns changes
//	call          one HTTP request to one model server; no retries here, the caller decides
//	post-process  the release's rules, in order, on every choice's text
//
// What Refit owns in a request: the model's name; for chat the system message put first and the message
// with passages put before the last user message; the sampling parameters, unless the release lets
// clients override them; and stream_options.include_usage, so that streams are metered. Every other
// byte, unknown fields, key order and the text of numbers arrive as the client wrote them. The
// images endpoint takes the release's diffusion parameters (num_inference_steps, guidance_scale, scheduler) in place of
// the client's; prompt, retrieval and rules are for text and do not hold there, and images are not streamed. The
// completions endpoint is raw: parameters and rules hold there, prompt and retrieval do not. A completions
// request that asks only for a score (echo, max_tokens 0) generates nothing, so no rule applies to it.
//
// # Errors
//
// An error before [Sink.Start] means that nothing was sent: the caller may ask another server or answer
// with an error of its own. An error after Start means that the answer broke off: the caller must end the
// connection so that the client sees that, never as if it had ended well. A model server's refusal is an
// [*UpstreamError]; an unknown model name (404) is Unavailable, because the server lacks the release.
//
// A call ends with its context, and the error is the context's cause. Where the context has a deadline the model server is
// told how much of it is left, in [HeaderTimeLeft]. A server that does not begin its answer in time, or falls silent, is
// Unavailable with status 504; see [TooSlow].
//
// A request that met a connection which the server was closing is sent again, and only that one: the kernels know
// that the server cannot have read it (see link.go; on systems other than Linux it fails instead).
//
// # Streams
//
// Events are passed on one by one and flushed. An event that no rule changed is passed on byte by byte,
// comments too. A stream that ends without [DONE] is an error. Rules work incrementally: a deny-pattern
// holds back as many bytes as its longest match could have, at most [MaxHold]; a match longer than that
// may be masked in part only. A refusal in the middle of a stream cannot take back what was sent before
// the match. After a cut the rest of the model's answer is read and thrown away, so that usage stays true.
//
// # Memory
//
// A request that [ReadBuffer] read stands in memory that serves other requests later. It goes back when everybody has
// called [Asked.Free]: who read it, who was given it by [Asked.Share], and whatever still sends it to a model server.
// Nothing that a [Result] holds stands in it.
//
// # Rules
//
// A service declares them under release.post_process; they hold in order, for each choice on its own.
//
//	trim            takes white space from both ends
//	max-length      ends the text after so many characters, finish reason length, or refuses it
//	deny-pattern    masks or refuses what an RE2 expression matches
//	pii             masks as [email], [phone], [card], [iban] or [ip], or refuses or counts; cards and IBANs by their
//	                check digits, phone numbers by the forms of lifecycle.PersonalForms. Holds back the run of characters
//	                that may become one, at most 320 bytes
//	refusal-phrase  counts answers in which the model itself refuses, and gives them the outcome refused; mark ends them
//	                with finish reason content_filter. Holds nothing back
//	json            counts, marks or refuses an answer that is not one JSON value as a whole. To refuse, the whole text
//	                is held back, at most 256 KiB; longer is not JSON. An answer that only calls a tool passes
//
// Every rule that minds an answer is named in Result.Guardrails, whether it changed something or not. Masked text, cuts
// and names are the same however the answer comes in pieces.
//
// # Not promised
//
// Rules see the text of choices only: tool calls pass unchanged. Log probabilities and a reasoning model's
// thoughts are dropped where the release has a rule that hides text, because they would show it; a text in a form
// that rules cannot read is then an error.
package answer
