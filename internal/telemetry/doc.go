// Package telemetry sets up how Refit's processes speak of themselves: structured logs and Prometheus
// metrics. It knows no other room; each room declares its own metrics on the registry it is given.
//
// Logs carry identifiers, digests, counts and durations. They never carry a prompt, an answer, feedback
// text or a secret: nothing here filters those out, so nobody may put them in.
package telemetry
