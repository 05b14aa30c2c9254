// Package artifacts keeps Refit's big things (datasets, models, indexes, reports) in S3 and brings them back.
// Activities, the gateway and the roles in cmd use it; nothing else of Refit imports minio-go.
//
// # Layout
//
// Below the configured prefix stand two sorts of objects:
//
//	blobs/sha256/ab/abcd...            the bytes of one file, named by their SHA-256
//	artifacts/KIND/DIGEST.json         a manifest, named by its own SHA-256
//
// A file's bytes are stored once however many artifacts hold them. An artifact exists when its manifest
// exists: every blob is written first and the manifest last, each by conditional create (If-None-Match: *).
// Because a name is the digest of what it names, two writers of equal content meet in the same artifact, and
// writers of other content write other names. A manifest that is there with other bytes is damage, and said so.
//
// # Writing
//
// A file is read twice: once to learn its digests, once to send it. Every request carries the digests of the
// first reading, so a file that changes in between is refused by the server and never stored under a wrong name.
// Files of more than one part go up as multipart uploads. A later Put of the same bytes, by whomever and from
// wherever, finds the unfinished upload, keeps the parts whose number, size and MD5 agree, and sends the others.
//
// # Reading
//
// Everything read is held against its digest before anybody may use it. Get writes into a hidden sibling of the
// folder asked for, verifies and syncs each file, and renames the whole into place. Cache keeps artifacts on the
// local disk between uses and verifies them each time they are asked for.
//
// # What is not promised
//
// Nothing is deleted: unfinished uploads and blobs without a manifest stay until a bucket rule
// (AbortIncompleteMultipartUpload) or a collector removes them. The cache does not shrink by itself. The server
// must honour If-None-Match on PutObject; one that ignores it costs duplicate work, not correctness, as names
// are digests. Servers whose part ETag is not an MD5 (some kinds of encryption) lose only the resuming.
package artifacts
