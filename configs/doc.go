// Package configs holds what a process is set up with: settings (a file, environment variables, the
// one-machine stack's own file), service declarations read from YAML, the JSON schema generated from
// them, and example services under examples/.
//
// cmd/refit imports it. Secrets stand in no declaration; settings may hold them and are never logged.
package configs
