// Package stats is shared mathematics without domain words: always-valid tests, confidence sequences, paired
// tests and limits, the bootstrap of clusters. Every room of thought may use it; it knows none of them, and holds
// no clock, no global and no randomness of its own (the bootstrap takes a seed).
//
// Each function names its source and what it promises. Numbers that cannot be (NaN, infinities, negative counts,
// more hits than trials, probabilities outside of 0 and 1) give [ErrInput], never a result. Levels are one-sided
// and called alpha: 0.05 is 5%.
//
// # Always-valid tests
//
// [Excess] and [Deficit] watch a stream of yes and no, each with the probability that it had under the null
// hypothesis, known before it came. Under the null the e-value passes 1/alpha at any time with probability at most
// alpha, so one may look after every observation and stop when one likes. What is not promised: power against
// alternatives outside of the ladder of odds ratios, and anything when the probabilities were not known before.
// [Above] does the same for values between 0 and 1 and the mean that they have at most.
//
// [LowerOdds], [UpperOdds] and [RateLimits] are the same tests against every odds ratio, or rate, at once: confidence
// sequences that hold what the tests do not reject, so that limit and test never contradict each other.
//
// # Limits and tests at the gate
//
// [TangoLower] and [TangoUpper] bound a difference of paired proportions, [McNemar] tests that there is none,
// [MeanLimits] and [ClusterLimits] use Student's t, [Bootstrap] resamples clusters. Counts are float64, because
// clustered counts are divided by a [DesignEffect]. Limits by t, Tango and bootstrap are approximations; their
// level is near alpha, not under it. [Betting] is exact for values with known bounds, and wider.
//
// [RawAgreement], [CohenKappa], [Spearman] and [KendallTau] say how far two raters agree, with limits. Theirs are
// approximations but for the raw agreement's, which are exact.
//
// [TangoPower], [TangoSwapped] and [StudentPower] say beforehand how often these limits and tests will see what is
// there.
package stats
