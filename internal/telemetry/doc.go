// Package telemetry sets up how Refit's processes speak of themselves: structured logs, Prometheus
// metrics, and spans for an OTLP receiver. It knows no other room; each room declares its own metrics on the
// registry it is given, and its own spans with the provider it is given.
//
// Logs and spans carry identifiers, digests, counts and durations. They never carry a prompt, an answer, feedback
// text or a secret: nothing here filters those out, so nobody may put them in.
package telemetry
