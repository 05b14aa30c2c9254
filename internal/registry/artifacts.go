package registry

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// maxLineage bounds a walk through parents, in artifacts.
const maxLineage = 1000

// AddArtifact records an artifact that is stored. An artifact is named by service and digest: adding it again
// changes nothing, neither who made it nor its labels.
func (r *Registry) AddArtifact(ctx context.Context, a lifecycle.Artifact) error {
	if !a.Digest.Valid() || a.Kind == "" {
		return lifecycle.Errorf(lifecycle.Invalid, "artifact: kind %q and digest %q; give both", a.Kind, a.Digest)
	}
	if a.Parents == nil {
		a.Parents = []lifecycle.Digest{}
	}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
INSERT INTO artifacts (service, digest, kind, size, files, parents, labels, made_by, made_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, clock_timestamp()))
ON CONFLICT (service, digest) DO NOTHING`,
			a.Service, a.Digest, a.Kind, a.Size, a.Files, a.Parents, a.Labels, a.MadeBy, timeOrNull(a.MadeAt))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return appendLedger(ctx, tx, lifecycle.LedgerEntry{
			Service: a.Service, Kind: lifecycle.ArtifactAdded, Subject: string(a.Digest), Actor: a.MadeBy,
			Evidence: evidence(map[string]any{"kind": a.Kind, "size": a.Size, "files": a.Files, "parents": a.Parents}),
		}, "")
	})
	return wrap(err, "add %s %s of %s", a.Kind, a.Digest.Short(), a.Service)
}

const selectArtifacts = `SELECT service, digest, kind, size, files, parents, labels, made_by, made_at FROM artifacts`

func scanArtifact(row pgx.CollectableRow) (a lifecycle.Artifact, err error) {
	err = row.Scan(&a.Service, &a.Digest, &a.Kind, &a.Size, &a.Files, &a.Parents, &a.Labels, &a.MadeBy, &a.MadeAt)
	return a, err
}

// Artifact gives an artifact by its whole digest; where several services have it, as the first one added it.
func (r *Registry) Artifact(ctx context.Context, digest lifecycle.Digest) (lifecycle.Artifact, error) {
	rows, err := r.pool.Query(ctx, selectArtifacts+` WHERE digest = $1 ORDER BY ordinal LIMIT 1`, digest)
	if err != nil {
		return lifecycle.Artifact{}, wrap(err, "read artifact %s", digest.Short())
	}
	a, err := pgx.CollectExactlyOneRow(rows, scanArtifact)
	return a, wrap(err, "read artifact %s", digest.Short())
}

// LatestArtifact gives the artifact of a kind that was added last and has all the given labels; nil labels
// ask for nothing. None is NotFound.
func (r *Registry) LatestArtifact(ctx context.Context, service string, kind lifecycle.ArtifactKind, labels map[string]string) (lifecycle.Artifact, error) {
	if labels == nil {
		labels = map[string]string{}
	}
	rows, err := r.pool.Query(ctx, selectArtifacts+`
WHERE service = $1 AND kind = $2 AND labels @> $3 ORDER BY ordinal DESC LIMIT 1`, service, kind, labels)
	if err != nil {
		return lifecycle.Artifact{}, wrap(err, "find the newest %s of %s", kind, service)
	}
	a, err := pgx.CollectExactlyOneRow(rows, scanArtifact)
	return a, wrap(err, "find the newest %s of %s with labels %v", kind, service, labels)
}

// ArtifactsOf lists a service's artifacts of a kind, newest first.
func (r *Registry) ArtifactsOf(ctx context.Context, service string, kind lifecycle.ArtifactKind) ([]lifecycle.Artifact, error) {
	rows, err := r.pool.Query(ctx, selectArtifacts+` WHERE service = $1 AND kind = $2 ORDER BY ordinal DESC`, service, kind)
	if err != nil {
		return nil, wrap(err, "list every %s of %s", kind, service)
	}
	list, err := pgx.CollectRows(rows, scanArtifact)
	return list, wrap(err, "list every %s of %s", kind, service)
}

// Lineage gives an artifact and all that it was made from, itself first, each once. Parents that the registry
// does not know are left out.
func (r *Registry) Lineage(ctx context.Context, digest lifecycle.Digest) ([]lifecycle.Artifact, error) {
	first, err := r.Artifact(ctx, digest)
	if err != nil {
		return nil, err
	}
	line, seen := []lifecycle.Artifact{first}, map[lifecycle.Digest]bool{digest: true}
	for at := 0; at < len(line) && len(line) < maxLineage; at++ {
		for _, parent := range line[at].Parents {
			if seen[parent] {
				continue
			}
			seen[parent] = true
			a, err := r.Artifact(ctx, parent)
			if lifecycle.Is(err, lifecycle.NotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			line = append(line, a)
		}
	}
	return line, nil
}
