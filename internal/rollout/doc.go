// Package rollout decides who meets a canary and what follows from it: the exposure rule, its audit, the share test
// and the sequential judge. It is a room of thought: no network, store or clock in it; data comes in as values.
// Gateways use [Splitter] and [Lease], the store does the arithmetic of [Pool], activities call [Judge] and [Audit].
//
// # The exposure rule
//
// A conversation's side is decided at its first request and changes only towards stable. A gateway has a credit for
// the rollout, in units of one canary request:
//
//	start, restart, step down, lapse   credit is 0
//	a user request                     credit grows by the share p, to B (Config.Cap) at most
//	a canary request                   takes 1 at admission, whatever becomes of it
//
// A conversation is in one of these states:
//
//	unknown   and new:       tosses if the credit is at least H (Config.Threshold), else stable without a propensity
//	unknown   and running:   stable, unless a signed token or the registry says that it was on the canary
//	on canary                goes on there while the credit is at least 1, else it is moved
//	moved, stable            stable for good
//
// The toss compares a keyed hash with a band. The band's odds are Band times the odds of p: width p/(p+(1-p)/Band), for
// small p nearly Band·p, never above 1, its ratio to p falling to 1 as p grows. The width at the toss is the
// conversation's propensity. Whether it may toss depends on earlier requests only, so given the past a conversation
// that tossed was on the canary with exactly its propensity: that is all that the tests below need.
//
// Credit is an integer (1/10,000 of a request), so the bound is exact: at a gateway, over share changes, lapses and
// restarts, canary requests are at most Σp over every prefix of its requests and at most Σp + B over every window.
// Retries, fail-over and requests for other things than an answer are not user requests and are not shown to Admit.
//
// With the defaults (Band 3, B 20 at one gateway, H 12), conversations with Pareto lengths and 5% allowed, 99.9% of the
// share is reached and 0.1% of canary conversations are moved; the plain rule (1, 9, 1) reaches less than 78% and moves
// 4.7% (TestFivePercentIsFivePercent). The first canary conversation comes after H/p requests, 240 at 5%.
//
// Memory is bounded: Config.Remember conversations at least, twice as many at most, the longest silent forgotten first.
// A forgotten conversation is unknown.
//
// # Several gateways
//
// There is one credit for all gateways of a rollout, in a [Pool] that the store keeps. No request ever waits for it:
//
//	gateway        reports Σp of its requests (a total) and draws whole units ahead, behind the requests: at once when a
//	               unit was taken or a whole one earned, else every 100 ms. A canary request takes a unit that is here;
//	               without one a new conversation does not toss, and one on the canary is moved.
//	pool           grants at most what was reported in all, to each gateway its part of all credit (1 unit at least);
//	               a gateway hands back what is more than its part. Pool and units at gateways together are capped at B.
//	n gateways     B is 20 and 2.5 for each further gateway, H is 12 and 1.5, because a unit must lie ready at each;
//	               neither passes Config.Cap (60) and 4/5 of it. See [Bound].
//	step down, lapse, end    the pool's epoch grows: all credit is void, wherever it is
//	dead gateway   its units are lost: it gives them up itself when it had no answer for lifecycle.LeaseTime, and the
//	               pool counts them as lost after two of them. A restarted gateway is a new one.
//	lost answer    totals make repeating harmless; units of a grant that did not arrive are lost
//	no answer      nothing is granted and nobody tosses; units that are here may still be taken
//
// In sum every prefix is at most Σp, and every window at most Σp + B + what was earned before the window and reported
// within it (100 ms of traffic, or less than a unit a gateway, while the store answers). Twenty gateways at 5%, 100
// requests a second and 4 ms to the store reach 99.6% and move 0.02% (TestPooledCreditIsAsGoodAsOneGateway); with
// credit of their own they reached 97.6%, moved 2.1% and had a B of 400.
//
// # Tokens
//
// Where Config.Tokens says so, tokens are counted too, at each gateway for itself: at every moment the tokens of the
// canary's ended requests and what is reserved for those in flight are at most Σp·tokens over all ended requests, at a
// gateway and so in sum. A canary request reserves its limit of tokens at admission and settles at the end; a request
// that the token credit does not afford goes to stable, and its conversation is moved if it was on the canary. A new
// conversation that is not afforded does not toss: what it may cost does not depend on its hash. See [Splitter.Settle].
// What a server gives over the limit is owed and paid before anything else. A canary request that nobody counted costs
// what it reserved.
//
// # The lease
//
// A share holds while the controller's counter changes; see [Lease]. When it lapses the gateway sets the share to 0, so
// running canary conversations are moved at their next request; when it is held again the credit starts at 0.
//
// # The share test and the judge
//
// Units are conversations that tossed, in order of first requests, one observation each: [Overexposure] is an e-process
// on the side of too much. It sees conversations up to the first whose first answer is not known everywhere
// ([Conversation].Open): what is known later is no fair sample, because the side that answers faster is known first. A
// step ends well only on conversations that it saw. [Judge] asks of each metric, among its events: who served them? They are
// weighed in the order in which they came, as if first answers took as long as the slowest of who tossed before, at most
// ten seconds ([Evidence.Now]): else the faster side's events come first, and every step begins with its only. With p
// the propensity and t the tolerated risk ratio the canary served an event with probability p·t/(1-p+p·t) at most, if
// it is no worse than tolerated; what both sides suffer says nothing. Decisions:
//
//	roll back, invalid   more was served than allowed (bound, or share test at 1%; all levels are lifecycle.Levels)
//	roll back            any metric, advisory too, proves harm: 5% in all, split by weight, over the whole rollout
//	hold                 a required metric is not collected; too few conversations; a required metric proves nothing yet
//	promote              every required metric proves to be under the step's margin, or its canary rate under the floor,
//	                     at 5% each (not split: all must), on the step's own conversations
//
// Beside them stand intervals ([lifecycle.Interval]) that hold at every look: what the same e-processes do not reject. A
// metric is harmful if and only if the low limit of its risk ratio is at or over t, and safe by who served if and only if
// the high one is at or under the margin; the low one never falls, the high one is the step's and may rise again.
//
// A step whose time is over is still held, with the reason, or rolled back where the policy says so.
//
// # The shadow step
//
// Before the first share a candidate may answer copies of requests. [JudgeShadow] weighs pairs of answers, one a
// conversation, in the order in which copies began:
//
//	roll back   the score drops by more than tolerated (a bet on the mean difference), or a metric's events are more
//	            the candidate's: among pairs in which exactly one side has one, it is either's with the same chance
//	            between equals. The step's weight of the level for rolling back, split evenly over what is watched
//	hold        too few pairs; a pair waits for its score, which keeps back all behind it; not proven yet
//	promote     enough pairs and, where it is required, a proof that the score drops by less than the margin
//
// An answer that did not come scores worst, against one that did. Pairs without texts have no score and are left out: whether
// a text is kept is decided by conversation. Which requests are copied depends on what came before them (budget, free
// places), never on the pair itself. Not promised: that the candidate is as good for users as for copies, whose conversations it
// does not steer; and a scorer that is wrong the same way about both answers sees no difference.
//
// # Not promised
//
// A client that drops its token after its conversation was forgotten here may start on the canary again as a new one;
// the bound holds all the same. A moved conversation that was forgotten here and shows an old token goes on on the
// canary. A conversation without a token that was moved at one gateway goes on on the canary at another one that
// has it there. The token credit is each gateway's own: with n of them the first canary request comes n times as late.
// A database whose clock jumps by more than 15 s may count a gateway's
// units as lost while it still takes them: the window may then be over by those; no prefix ever is. The judge's level rests on propensities being what they say, on
// conversations not choosing their side, on first answers that take over ten seconds taking as long on both sides (what
// takes longer is not waited for, because harm must be seen), and on labels coming as late after an answer on both; a rate
// under a floor counts only labels that have come. Less than allowed is never a fault here. No power is promised
// against risk ratios far from the ladder of package stats, nor for metrics with hardly any events: they hold.
package rollout
