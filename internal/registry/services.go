package registry

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// ServiceVersion is one applied version of a declaration.
type ServiceVersion struct {
	Service   string           `json:"service"`
	Version   int              `json:"version"` // from 1
	Digest    lifecycle.Digest `json:"digest"`
	Changed   bool             `json:"changed"` // this call made the version
	AppliedBy lifecycle.Actor  `json:"applied_by"`
	AppliedAt time.Time        `json:"applied_at"`
}

// ApplyService stores a declaration as the service's newest version, and declares the service the first time.
// Applying what is the newest already changes nothing. Every version is kept.
func (r *Registry) ApplyService(ctx context.Context, service lifecycle.Service, by lifecycle.Actor) (ServiceVersion, error) {
	if err := service.Check(); err != nil {
		return ServiceVersion{}, err
	}
	// The digest is that of what will be read back: an empty list and none are one thing in JSON.
	raw, err := json.Marshal(service)
	if err != nil {
		return ServiceVersion{}, wrap(err, "encode service %s", service.Name)
	}
	if service, err = decodeService(service.Name, raw); err != nil {
		return ServiceVersion{}, err
	}
	out := ServiceVersion{Service: service.Name, Digest: service.Digest(), AppliedBy: by}
	err = r.pool.QueryRow(ctx, `SELECT version, changed, applied_at FROM apply_service($1, $2, $3, $4)`,
		service.Name, out.Digest, service, by).Scan(&out.Version, &out.Changed, &out.AppliedAt)
	if err != nil {
		return ServiceVersion{}, wrap(err, "apply service %s", service.Name)
	}
	if !out.Changed {
		return r.ServiceVersion(ctx, service.Name)
	}
	return out, nil
}

// Service gives the newest declaration. An undeclared service is NotFound.
func (r *Registry) Service(ctx context.Context, name string) (lifecycle.Service, error) {
	var raw []byte
	err := r.pool.QueryRow(ctx, `SELECT declaration FROM service_versions WHERE service = $1 ORDER BY version DESC LIMIT 1`,
		name).Scan(&raw)
	if err != nil {
		return lifecycle.Service{}, wrap(err, "read service %s", name)
	}
	return decodeService(name, raw)
}

func decodeService(name string, raw []byte) (lifecycle.Service, error) {
	var service lifecycle.Service
	if err := json.Unmarshal(raw, &service); err != nil {
		return lifecycle.Service{}, lifecycle.Errorf(lifecycle.Corrupt, "read service %s: %w", name, err)
	}
	return service, nil
}

// ServiceVersion gives the newest version of a service.
func (r *Registry) ServiceVersion(ctx context.Context, name string) (ServiceVersion, error) {
	rows, err := r.pool.Query(ctx, selectVersions+` WHERE s.name = $1`, name)
	if err != nil {
		return ServiceVersion{}, wrap(err, "read the version of service %s", name)
	}
	version, err := pgx.CollectExactlyOneRow(rows, scanVersion)
	return version, wrap(err, "read the version of service %s", name)
}

// Services lists every service with its newest version, by name.
func (r *Registry) Services(ctx context.Context) ([]ServiceVersion, error) {
	rows, err := r.pool.Query(ctx, selectVersions+` ORDER BY s.name`)
	if err != nil {
		return nil, wrap(err, "list services")
	}
	list, err := pgx.CollectRows(rows, scanVersion)
	return list, wrap(err, "list services")
}

const selectVersions = `
SELECT v.service, v.version, v.digest, v.applied_by, v.applied_at
FROM services s JOIN service_versions v ON v.service = s.name AND v.version = s.version`

func scanVersion(row pgx.CollectableRow) (v ServiceVersion, err error) {
	err = row.Scan(&v.Service, &v.Version, &v.Digest, &v.AppliedBy, &v.AppliedAt)
	return v, err
}
