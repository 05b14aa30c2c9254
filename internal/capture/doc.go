// Package capture keeps what was served and what users said of it. Gateways write through a Spool; a Loader
// brings the spool's records into PostgreSQL; activities and control read from a Store. The tables are made by
// the registry's migrations.
//
// # The way of a record
//
// A gateway hands an interaction over before the end of its answer goes out, and goes on when the record is in a
// segment file: written, not yet synced. Records that come together are written together, one write for a group
// (and one before it for the group's texts); a sync covers them SpoolConfig.Flush later, beside the writer, so that
// no answer waits for a sync. Segments are loaded in batches, each one transaction, and deleted once all of one is
// loaded. What was written stays in memory, too, within SpoolConfig.Ahead, until it is loaded: a segment is read only
// after a restart, or where the loader fell behind. A record is stored once however often it is loaded, because its ID
// is the key.
//
// Interactions are partitioned by their day in UTC. The loader makes partitions ahead, and for late records; what has
// none (a day a year ago, a clock that is wrong, a database that was busy) is kept in the default partition, from
// where it moves when its day is made.
//
// An archive is one day of one service: an artifact of two Parquet files, of one moment of the database, whose rows are
// ordered, so that the same rows are the same artifact. A day is forgotten (forget_day) only when its newest archive has
// as many rows as the database; rows that came later make another archive first. Partitions that nobody else has rows
// in are dropped.
//
// A segment is a pair of files of frames (magic, length, CRC-32C): NUMBER.spool with records, NUMBER.text with what
// people wrote and read. A record names its text's place; the text names its record.
//
// # When there is no room
//
// Texts are given up first, the oldest first: on disk beyond SpoolConfig.Disk or when the file system is full, in
// memory beyond SpoolConfig.Memory. Records themselves are kept while anything can be given up for them. While the
// disk takes nothing (full, read-only, broken) or takes longer than SpoolConfig.Wait, answers end without waiting and
// are counted as late; their records wait in memory, from where they go to the disk when it works again, or past it
// to the database. Only what finds no room there is dropped, and counted. Feedback is refused at such times, so
// that it is sent again: it is acknowledged only after it is synced.
//
// At every moment, read under one lock (Accounts) and in every scrape: requests = in flight + shed + waiting +
// captured + dropped.
//
// # Bounds
//
// A kill of the process loses nothing that a client saw complete, as long as the disk works. A power cut loses
// what was written since the last sync: at most SpoolConfig.Flush (50 ms) and the time that a sync takes. A
// volume that is lost costs what was not loaded. A torn tail is cut off at the start; a damaged record in the middle
// is skipped and counted, and what follows it is read; a damaged text costs its record that text. While
// PostgreSQL is gone records wait on disk.
//
// # Not promised
//
// Answers that end late (Losses.Late) may be lost to a kill. A record that the database refuses alone is counted
// (Losses.Refused) and left out, because it would hold up all others for ever. Feedback may be stored before its
// interaction, and counts as evidence as soon as both are there and its owner is the interaction's. What is in the spool
// is not evidence yet, so numbers lag by the loader's interval, and by the time that PostgreSQL is gone.
//
// That no text is kept which a service wants kept out is no promise of this package: redaction, sampling and metadata
// only are the gateway's, which hands over what may be kept. A row says what became of its texts (lifecycle.Content).
package capture
