// Package console is the face that people and the CLI talk to: the control API, every use case of control
// by its name, and one page that says what serves and how it came to that. It translates HTTP and holds no logic.
//
// # Who is let in
//
// Every call of the API carries a bearer token; what the token's role may do is checked in control. The page
// changes nothing and needs no script. It asks for a token once and keeps a cookie for 12 hours (sessions end
// with the process). One exception: a browser on this very machine that asks it by a loopback address sees the
// page without signing in, as a viewer; Config.SignIn takes the exception away, which is what a console
// behind a proxy of the same machine needs. /healthz and /metrics ask nobody.
//
// Tokens cross a network only over TLS: who serves the handler sees to that.
//
// cmd/refit imports it.
package console
