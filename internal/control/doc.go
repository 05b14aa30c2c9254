// Package control holds the use cases: apply a service, promote, approve, roll back, look. The CLI and
// the console share them; both call them by name through one HTTP API, so what a role may do is checked
// in one place. Every use case is one typed value (UseCase): its name, the role it needs, and what it
// does.
//
// A role is needed in every service that the input concerns (scope.go), in all where it names none. Who bears a token of
// an OpenID Connect provider is read here, too (OIDC).
//
// What people may see comes from the registry, so that it can be seen with no worker alive. Temporal is
// asked for what only it knows, and where it does not answer the result says so instead of failing.
//
// console and cmd import it. It knows lifecycle, steps, registry, capture, the Temporal client, and of the
// rooms of thought the calendar (freeze) and the plan (rollout).
package control
