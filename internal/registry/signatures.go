package registry

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// signRelease writes the signature of this place's key, where it has one.
func (r *Registry) signRelease(ctx context.Context, on execer, release lifecycle.Release) error {
	if r.signer == nil {
		return nil
	}
	e := lifecycle.Sign(r.signer, lifecycle.ReleasePayload, release.Canonical())
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = on.Exec(ctx, `
INSERT INTO release_signatures (service, release, key_id, envelope) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
		release.Service, release.ID(), e.Signatures[0].KeyID, raw)
	return err
}

// SignRelease signs a release that is there with this place's key. Signing it again changes nothing.
func (r *Registry) SignRelease(ctx context.Context, release lifecycle.Release) error {
	if r.signer == nil {
		return lifecycle.Errorf(lifecycle.Invalid, "sign release %s: this place has no key to sign with", release.ID().Short())
	}
	return wrap(r.signRelease(ctx, r.pool, release), "sign release %s of %s", release.ID().Short(), release.Service)
}

// TrustedRelease is Release for who is about to serve it: where keys are trusted, one of them must have signed it, else it
// is Refused.
func (r *Registry) TrustedRelease(ctx context.Context, service, id string) (lifecycle.Digest, lifecycle.Release, error) {
	digest, release, err := r.Release(ctx, service, id)
	if err != nil || len(r.trusted) == 0 {
		return digest, release, err
	}
	envelopes, err := r.ReleaseSignatures(ctx, service, digest)
	if err != nil {
		return "", lifecycle.Release{}, err
	}
	for _, e := range envelopes {
		if release.VerifySigned(e, r.trusted) == nil {
			return digest, release, nil
		}
	}
	return "", lifecycle.Release{}, lifecycle.Unsigned("release "+digest.Short()+" of "+service, r.trusted)
}

// ReleaseSignatures lists who signed a release, by key. What cannot be read as a signature is none.
func (r *Registry) ReleaseSignatures(ctx context.Context, service string, release lifecycle.Digest) ([]lifecycle.Envelope, error) {
	rows, err := r.pool.Query(ctx, `SELECT envelope FROM release_signatures WHERE service = $1 AND release = $2 ORDER BY key_id`, service, release)
	if err != nil {
		return nil, wrap(err, "read who signed release %s of %s", release.Short(), service)
	}
	raws, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return nil, wrap(err, "read who signed release %s of %s", release.Short(), service)
	}
	list := []lifecycle.Envelope{}
	for _, raw := range raws {
		var e lifecycle.Envelope
		if json.Unmarshal(raw, &e) == nil {
			list = append(list, e)
		}
	}
	return list, nil
}

// Artifacts lists what is recorded of a service, oldest first.
func (r *Registry) Artifacts(ctx context.Context, service string) ([]lifecycle.ArtifactRef, error) {
	rows, err := r.pool.Query(ctx, `SELECT kind, digest FROM artifacts WHERE service = $1 ORDER BY ordinal`, service)
	if err != nil {
		return nil, wrap(err, "list the artifacts of %s", service)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lifecycle.ArtifactRef])
	return list, wrap(err, "list the artifacts of %s", service)
}
