// Package feedback curates what users say into examples that a model may be tuned on, and counts what
// they complain about. It is a room of thought: items come in as values, examples and counts go out.
//
// Feedback is text from strangers, so everything is distrusted. In order: an item sent twice counts once;
// items without content, with broken or overlong text, or holding a secret are dropped; personal data
// is masked; floods are dropped (one client saying the same again and again, one text given as correction
// to many different prompts); contradictions are dropped; equal examples become one; what holds a case of
// a suite is dropped; and no client has more than its share of what is left. Every dropped item is counted under one reason.
//
// # Not promised
//
// Masking finds the forms listed in scrub.go and no others: names and addresses in prose stay. A patient
// attacker with many clients and varied texts passes the flood rules; the share bounds what each
// client can do, and the gate judges what comes of it.
package feedback
