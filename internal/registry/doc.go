// Package registry is the store of record in PostgreSQL: services, artifacts, releases, evaluations,
// claims with their fences, routes with their generations, rollouts, the ladder and the ledger, one file an
// aggregate. Activities, control and the gateway's wiring use it; rooms of thought never do. Beside package
// capture nothing else imports pgx.
//
// # Who may change what
//
// The owner migrates. The application's role inserts and reads; whatever changes what serves it can only ask
// of functions in the database. The role for rollbacks may execute one function and nothing else.
//
// A claim goes through these states: open, and closed by who holds it or by who takes it over. At most one
// claim of a service and loop is open. Its fence is larger than every fence before it. A direct rollback takes
// a fence too, and leaves the claim open: its holder is then Fenced and can only give the claim back.
//
// A route changes by SetFirstStable, StartRollout, SetShare, Promote, RollBack, and by the end of a claim that
// had a canary out. Each is one function and one transaction: it locks the service's route, checks the fence,
// writes, adds 1 to the generation, appends to the ledger and notifies. So a change that waited for a
// rollback's lock sees the rollback's fence and is refused, however long ago it was sent. There is never a
// canary without an open claim that named it.
//
// The ledger of a service has the numbers 1, 2, 3 and so on without gaps: the number comes from the service's
// counter in the same transaction. The database refuses to update, delete or truncate it, to the owner too.
//
// Incidents that hold changes are opened and closed by one function each, with a ledger entry. The database does not
// itself refuse a share in a freeze: who changes it asks first.
//
// # Bounds, and what is not promised
//
// A follower hears of a change by notification, usually within milliseconds, and by polling within
// FollowConfig.Poll of the database answering. It never applies a lower epoch or generation, and says nothing
// while the database is gone. A superuser of the database may do anything; until ledger entries are chained
// nothing here would show it. Releases, artifacts and evaluations are never deleted.
//
// Errors have the kinds of lifecycle. What the database could not be asked is Unavailable, never an answer.
package registry
