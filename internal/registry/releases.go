package registry

import (
	"context"
	"encoding/json"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// ReleaseInfo is a release in a list.
type ReleaseInfo struct {
	ID      lifecycle.Digest  `json:"id"`
	Release lifecycle.Release `json:"release"`
	AddedBy lifecycle.Actor   `json:"added_by"`
	AddedAt time.Time         `json:"added_at"`
	Outcome lifecycle.Outcome `json:"outcome,omitempty"` // of its newest verdict as a candidate; empty: none yet
}

// AddRelease stores a release under the digest of its canonical form and gives that. Adding it again changes
// nothing. An undeclared service is NotFound.
func (r *Registry) AddRelease(ctx context.Context, release lifecycle.Release, by lifecycle.Actor) (lifecycle.Digest, error) {
	if err := release.Check(); err != nil {
		return "", err
	}
	id := release.ID()
	err := r.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
INSERT INTO releases (service, id, canonical, added_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (service, id) DO NOTHING`, release.Service, id, release.Canonical(), by)
		if err == nil {
			err = r.signRelease(ctx, tx, release)
		}
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		about := map[string]any{"model": release.Model, "index": release.Index}
		if about["screen"], err = screenOf(ctx, tx, release); err != nil {
			return err
		}
		return appendLedger(ctx, tx, lifecycle.LedgerEntry{
			Service: release.Service, Kind: lifecycle.ReleaseAdded, Subject: string(id), Actor: by, Evidence: evidence(about),
		}, "")
	})
	if err != nil {
		return "", wrap(err, "add release %s of %s", id.Short(), release.Service)
	}
	return id, nil
}

// screenOf gives the report of holding a model's training data against the suites; "": nobody did.
func screenOf(ctx context.Context, tx pgx.Tx, release lifecycle.Release) (report string, err error) {
	err = tx.QueryRow(ctx, `
SELECT coalesce((SELECT labels->>$3 FROM artifacts WHERE service = $1 AND digest = $2), '')`,
		release.Service, release.Model, lifecycle.ScreenLabel).Scan(&report)
	return report, err
}

// NewRelease asks for a release of what a service has.
type NewRelease struct {
	Service string
	Model   lifecycle.Digest // empty: the newest of the service
	Index   lifecycle.Digest // empty: the newest; none where the service has or wants none
	By      lifecycle.Actor
}

// MakeRelease bundles a model and an index with the service's defaults, and adds the release. Without any
// model it is NotFound.
func (r *Registry) MakeRelease(ctx context.Context, in NewRelease) (lifecycle.Digest, error) {
	service, err := r.Service(ctx, in.Service)
	if err != nil {
		return "", err
	}
	model, err := r.artifactOrLatest(ctx, in.Service, lifecycle.ModelArtifact, in.Model)
	if err != nil {
		return "", err
	}
	var index *lifecycle.Artifact
	if in.Index != "" || len(service.Retrieval.Corpora) > 0 {
		found, err := r.artifactOrLatest(ctx, in.Service, lifecycle.IndexArtifact, in.Index)
		switch {
		case err == nil:
			index = &found
		case in.Index != "" || !lifecycle.Is(err, lifecycle.NotFound):
			return "", err
		}
	}
	return r.AddRelease(ctx, lifecycle.Compose(service, model.Digest, index), in.By)
}

func (r *Registry) artifactOrLatest(ctx context.Context, service string, kind lifecycle.ArtifactKind, digest lifecycle.Digest) (lifecycle.Artifact, error) {
	if digest == "" {
		return r.LatestArtifact(ctx, service, kind, nil)
	}
	a, err := r.Artifact(ctx, digest)
	if err == nil && a.Kind != kind {
		err = lifecycle.Errorf(lifecycle.Invalid, "artifact %s is of kind %s; give one of kind %s", digest.Short(), a.Kind, kind)
	}
	return a, err
}

var hexPrefix = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// Release finds a release by its ID or an unambiguous beginning of it. An ambiguous beginning is Invalid.
// Bytes that do not match their ID are Corrupt.
func (r *Registry) Release(ctx context.Context, service, idOrPrefix string) (lifecycle.Digest, lifecycle.Release, error) {
	var none lifecycle.Release
	if !hexPrefix.MatchString(idOrPrefix) {
		return "", none, lifecycle.Errorf(lifecycle.Invalid, "release: %q; give an ID or its beginning, in lower-case hexadecimal digits", idOrPrefix)
	}
	rows, err := r.pool.Query(ctx, `
SELECT id, canonical FROM releases WHERE service = $1 AND id LIKE $2 || '%' ORDER BY id LIMIT 2`, service, idOrPrefix)
	if err != nil {
		return "", none, wrap(err, "find release %s of %s", idOrPrefix, service)
	}
	type stored struct {
		ID        lifecycle.Digest
		Canonical []byte
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[stored])
	switch {
	case err != nil:
		return "", none, wrap(err, "find release %s of %s", idOrPrefix, service)
	case len(found) == 0:
		return "", none, lifecycle.Errorf(lifecycle.NotFound, "service %s has no release %s", service, idOrPrefix)
	case len(found) > 1:
		return "", none, lifecycle.Errorf(lifecycle.Invalid, "release %s of %s is ambiguous: %s and %s begin so; give more digits",
			idOrPrefix, service, found[0].ID.Short(), found[1].ID.Short())
	}
	release, err := decodeRelease(found[0].ID, found[0].Canonical)
	return found[0].ID, release, err
}

func decodeRelease(id lifecycle.Digest, canonical []byte) (lifecycle.Release, error) {
	if lifecycle.DigestOf(canonical) != id {
		return lifecycle.Release{}, lifecycle.Errorf(lifecycle.Corrupt, "release %s: its bytes have another digest", id.Short())
	}
	var release lifecycle.Release
	if err := json.Unmarshal(canonical, &release); err != nil {
		return lifecycle.Release{}, lifecycle.Errorf(lifecycle.Corrupt, "release %s: %w", id.Short(), err)
	}
	return release, nil
}

// Releases lists a service's releases, newest first; limit 0 means 20.
func (r *Registry) Releases(ctx context.Context, service string, limit int) ([]ReleaseInfo, error) {
	if limit <= 0 {
		limit = 20
	}
	rows, err := r.pool.Query(ctx, `
SELECT r.id, r.canonical, r.added_by, r.added_at, coalesce(e.outcome, '')
FROM releases r LEFT JOIN LATERAL (
    SELECT outcome FROM evaluations e WHERE e.service = r.service AND e.candidate = r.id ORDER BY ordinal DESC LIMIT 1
) e ON true
WHERE r.service = $1 ORDER BY r.ordinal DESC LIMIT $2`, service, limit)
	if err != nil {
		return nil, wrap(err, "list releases of %s", service)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i ReleaseInfo, err error) {
		var canonical []byte
		if err = row.Scan(&i.ID, &canonical, &i.AddedBy, &i.AddedAt, &i.Outcome); err == nil {
			i.Release, err = decodeRelease(i.ID, canonical)
		}
		return i, err
	})
	return list, wrap(err, "list releases of %s", service)
}
