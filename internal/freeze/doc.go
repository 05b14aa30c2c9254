// Package freeze says whether a change of what serves has to wait now, by which window or incident, and until when.
// It is the only place that reads calendars; workflows follow what a step recorded of it.
//
// A window holds from the first instant at which a clock on the wall of its zone shows its begin or more, to the last
// one at which the clock shows less than its end. So over a change of the clocks it lasts at least as long as it reads,
// never twice with a gap between: a begin that is shown twice counts at the first, an end that is shown twice at the
// second, and a time that is left out is the moment of the change. A zone that is not known is an error, never leave to
// change.
//
// It knows lifecycle. activities and control use it.
package freeze
