// Package gateway is the data plane: an OpenAI-compatible front for several services that splits traffic between
// a stable release and a canary, meters it and hands what happened to capture. Only cmd runs it. It knows
// nothing of Temporal, and PostgreSQL only through Store.
//
// # For clients
//
//	POST /v1/chat/completions, /v1/completions, /v1/embeddings,
//	     /v1/images/generations   the OpenAI API; "model" names the service
//	POST /v1/feedback     {service, interaction, kind, reason, correction, id}; sent twice it counts once, for another client's it is refused
//	GET  /v1/models, /v1/models/NAME   services that can answer
//	GET  /healthz         the process lives
//	GET  /readyz          200 when the services can answer, 503 else and while draining
//	GET  /metrics         where the owner of the process gave a handler
//
// An answer carries x-refit-release (digest of the release that answered), x-refit-interaction (what feedback
// refers to) and x-refit-conversation. Handing the last one back keeps a conversation together, also over several
// gateways; it is signed, so nobody can choose a side with it. Without it a conversation is client and its name
// in Config.ConversationHeader (which may be a claim of a JWT there, Config.ConversationClaim), or client and first user text. Of these headers only the signed token is believed from
// a client, and none from a model server.
// Where Config.Keys asks for it, and it does unless it is told otherwise, every path below /v1 needs an API key in
// force, as Authorization: Bearer; without one it answers 401 before a byte of the body is read. A key opens the
// services that it names; the others are not there for it. Over a key's limits it is 429 with Retry-After and
// x-ratelimit-* headers.
// A body over the limit is 413; when no server has room, 503 with Retry-After, at once where waiting would be in vain.
//
// # The route and its states
//
// One lane a service. The newest route that was seen decides; an older one is never applied. What takes traffic
// away from a canary works at once. A release gets traffic only when it is ready: its release read, its index
// open, a server known that has its weights. Until a new stable is ready the old one serves on, and its
// generation is not reported as applied; a canary that is not ready leaves all traffic with stable. Every change is
// one step under the lane's lock: after a generation is reported, no request is admitted by an older one.
//
// The last stable route, its release and its servers are kept on disk. So with PostgreSQL or Temporal away stable is
// served without limit of time, also by a gateway that starts then. The canary is not: its share is a lease, and a
// gateway that has not seen the lease's counter change for lifecycle.LeaseTime of its own monotonic clock
// sets the share to 0. The first counter that a gateway sees counts as no change: it may be as old as it likes.
//
// # Exposure
//
// A request that counts (chat, completions and images; embeddings are always stable's) adds the share p to the rollout's
// credit, and a canary request takes 1 at admission; see package rollout for the rule and its bound. The credit is one
// pool in the registry for all gateways. It is told what was earned, and units are drawn, behind the requests and ahead
// of those that need them: no request waits for it, and without the registry nothing is granted. Where the service declares
// rollout.exposure.tokens, the tokens of the canary's answers stay under the share of all, too. A running
// conversation (it has assistant turns) that this gateway does not know goes to the canary only if its token or, within
// Config.Lookup, the registry says that it was there before. A conversation that cannot be continued is moved to
// stable for good.
//
// Stable answers for a canary that fails before its first byte; the interaction stays the canary's, as an error.
// The canary never answers for stable, and no retry goes to it. A stable request whose server cannot be reached
// is tried at one other server.
//
// # API keys
//
// Keys are followed like routes: a key that was made or revoked holds within a second of the registry answering.
// They are kept on disk as hashes, so a gateway that starts without the registry lets in whom it let in before; what
// was revoked since then it cannot know. A gateway that never knew the keys is not ready and answers 503. Limits
// are this gateway's own: no minute sees more requests of a key than its limit; of tokens, what is under way when the
// limit is reached comes on top.
//
// # Shadows
//
// Where the declaration names a shadow, a share of the requests that were answered is copied to that release. Its answers
// reach capture only, under the ID of the user's interaction with lifecycle.ShadowPrefix before it, and belong to no
// rollout. A copy begins when the user's answer is over and waits for nothing: over its budget (at once, a minute,
// deadline), without a free place, or without a server that no other release uses, it is dropped and counted. A release
// gets no copies while it is stable or the canary.
//
// In a rollout's shadow step (the route has a shadow share, and no other) the canary gets the copies instead, for as long as the
// lease is held, within the budget that the newest declaration gives the step. A request that was admitted before the
// step is not copied. When the route names no shadow share any more the copies under way are ended before the route
// is reported as applied. A report's Known waits for copies as it does for coins.
//
// # Model servers
//
// A release's server that fails five times in a row (5xx, an answer that breaks off; being too slow, for serving.first_byte
// or for the better part of serving.time_limit, weighs three) or cannot
// be connected to is left alone for a second, then tried by one request; each time that this fails it is left alone for
// twice as long, up to 30 s. When all of a release's servers are out they are all tried. What is learned holds for that
// release on that server, and a request never changes its side for it.
//
// # Time limits
//
// A request has the time of serving.time_limit, counted from its arrival, or less where its client gives less:
// x-envoy-expected-rq-timeout-ms bounds the whole, x-stainless-timeout and x-stainless-read-timeout the wait for a stream
// to begin and for any other answer, which begins when it is whole. What is unreadable or absurd counts as not given. What
// remains of the whole goes to the model server in the first of these headers. serving.first_byte bounds each model
// server's wait alone.
//
// A limit that is over in the queue turns the request away (shed for the reason deadline), one that ends an answer before
// its first byte is 504, and one in the middle of a stream breaks the connection off. The service's limits are the failure
// of who answered (outcome error): the canary's, where it had the request, and stable answers for it only after
// serving.first_byte, because then time is left. A client's own limit is no failure (outcome canceled, on either side): the
// client gave up as one does that leaves, how much time it gives is its choice, and by giving little it must be able neither
// to bring a canary down nor to make stable look bad. As with all who leave, how long it waited counts where the judge minds
// slow answers.
//
// # Bounds
//
// A request whose framing can be read in two ways (length and chunks, folded or half-ended lines, extensions and
// trailers of chunks) is answered 400 and its connection closed; guard.go says which and why. A request that names a host
// as a proxy's do is refused: the gateway fetches nothing that a client names, and what looks like an address in a body is
// text to it.
//
// A client that is slow is left: its head, its body and every piece of its answer have a time, Config.Patience. A head is
// at most 32 KiB.
//
// A server gets no more requests at once than its capacity, over all releases that share it. Waiting is bounded in
// number and time. Interactions are handed over without waiting. Memory is bounded by the lanes, the
// conversations remembered in a rollout, and Config.MaxBody times the requests in flight.
//
// # Not promised
//
// Stickiness: the exposure bound is hard, so it gives way. Exactly one attempt: a server that breaks off before
// its first byte may have worked. Agreement of two gateways about conversations without a token inside the time
// that the registry needs: the second one may send the conversation to stable.
package gateway
