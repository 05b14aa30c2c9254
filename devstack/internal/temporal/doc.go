// Package temporal runs a Temporal server and its web UI in process, on a PostgreSQL that somebody else keeps: the
// databases' schemas, the four services on loopback ports, the namespace of Refit and its search attributes.
//
// All state is in PostgreSQL; a killed server continues where it was. Four history shards, written into the
// database the first time, serve a small machine; their number cannot be changed later. No TLS, no
// authorization, no archival: a server for one machine.
package temporal
