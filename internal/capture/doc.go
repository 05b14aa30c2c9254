// Package capture keeps what was served and what users said of it. Gateways write through a Spool, which never
// makes an answer wait; a Loader brings the spool's records into PostgreSQL; activities and control read from a
// Store. The tables are made by the registry's migrations.
//
// # The way of a record
//
// Queued in memory; written to a segment file with length and CRC-32C and synced, many at a time; loaded in
// batches, each one transaction; its segment deleted once all of it is loaded. A record is stored once however
// often it is loaded, because its ID is the key.
//
// # Bounds, and what is not promised
//
// An interaction that finds the queue or the disk bound full is dropped and counted. Interactions that were
// queued and not yet synced when the process is killed are lost: at most those of the last SpoolConfig.Flush.
// Feedback is acknowledged only after it is synced. A torn tail is cut off at the start; a damaged record in
// the middle is skipped and counted, and what follows it is read. Feedback may be stored before its
// interaction, and counts as evidence as soon as both are there. What is in the spool is not evidence yet, so
// numbers lag by the loader's interval, and by the time that PostgreSQL is gone.
package capture
