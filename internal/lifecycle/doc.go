// Package lifecycle holds Refit's words: the types that every room shares and the rules that follow
// from a word alone. It imports nothing of Refit and nothing that touches the world: no clock, no
// file, no network. Everybody may import it.
//
// Values here are plain data with stable JSON names; they are stored in the registry, travel in
// Temporal payloads and appear in the CLI's JSON, spelled the same everywhere.
package lifecycle
