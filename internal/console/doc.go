// Package console is the face that people and the CLI talk to: the control API, every use case of control
// by its name, and one plain page that says what serves. It translates HTTP and holds no logic.
//
// cmd/refit imports it. Every call carries a bearer token; what the token's role may do is checked in
// control.
package console
