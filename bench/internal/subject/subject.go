// Package subject prepares the gateway under measurement as it runs in production: `refit gateway` on a registry in
// PostgreSQL, with a stable release, a canary at five percent whose lease is renewed, prompt assembly, API keys and
// capture of content.
package subject

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// Services by what is captured of them. Content is the one that is measured against other proxies.
const (
	Content  = "bench"
	Metadata = "bench-metadata"
)

func captures() map[string]string { return map[string]string{Content: "full", Metadata: "metadata"} }

// share is the canary's, in basis points.
const share = 500

// capacity lets the balancer count without ever making a request wait.
const capacity = 1 << 16

// Config says how the gateway shall run.
type Config struct {
	Program string // bin/refit
	Data    string // folder of its own
	Listen  string
	Service string
	Spans   string // address of who takes spans
}

// Environment is what the gateway's process is given beside REFIT_STACK.
func (c Config) Environment() []string {
	return []string{
		"REFIT_DATA=" + c.Data, "REFIT_GATEWAY_LISTEN=" + c.Listen, "REFIT_GATEWAY_SERVICES=" + c.Service,
		"REFIT_GATEWAY_KEYS=required", "REFIT_SIGNING_OFF=true", "REFIT_LOG_LEVEL=warn", "GOMAXPROCS=1",
		"REFIT_TRACES_ENDPOINT=http://" + c.Spans, "REFIT_TRACES_RATIO=0.01",
	}
}

// Prepare brings a registry to where a canary is at its share, and renews its lease until ctx ends. The stack's file is
// in REFIT_STACK.
func Prepare(ctx context.Context, stack, model string) (Ready, error) {
	settings, err := configs.Load("")
	if err != nil {
		return Ready{}, fmt.Errorf("read %s: %w", stack, err)
	}
	if err := registry.Migrate(ctx, settings.Registry.OwnerURL); err != nil {
		return Ready{}, err
	}
	record, err := registry.Open(ctx, registry.Config{URL: settings.Registry.URL})
	if err != nil {
		return Ready{}, err
	}
	var claims []lifecycle.Claim
	for name, content := range captures() {
		claim, err := roll(ctx, record, name, content, model)
		if err != nil {
			record.Close()
			return Ready{}, err
		}
		claims = append(claims, claim)
	}
	secret, err := key(ctx, record)
	if err != nil {
		record.Close()
		return Ready{}, err
	}
	go renew(ctx, record, claims)
	return Ready{Header: map[string]string{"Authorization": "Bearer " + secret}}, nil
}

// key makes a client's API key.
func key(ctx context.Context, record *registry.Registry) (string, error) {
	secret, id, err := lifecycle.NewAPIKey(rand.Text() + rand.Text() + rand.Text()[:12])
	if err != nil {
		return "", err
	}
	_, hash, _ := lifecycle.ReadAPIKey(secret)
	_, err = record.AddAPIKey(ctx, lifecycle.APIKey{
		ID: id, Name: "bench", Services: slices.Sorted(maps.Keys(captures())), Hash: hash[:], CreatedBy: actor(),
	})
	return secret, err
}

func actor() lifecycle.Actor { return lifecycle.Actor{Name: "bench", Via: "bench"} }

// Ready is what a client needs.
type Ready struct {
	Header map[string]string // credentials
}

func roll(ctx context.Context, record *registry.Registry, name, content, model string) (lifecycle.Claim, error) {
	by := actor()
	var none lifecycle.Claim
	service := lifecycle.Service{
		Name:    name,
		Serving: lifecycle.Serving{Engine: "static", Endpoints: []lifecycle.StaticEndpoint{{URL: "http://" + model, Capacity: capacity}}},
		Capture: lifecycle.CapturePolicy{Content: content},
	}
	if _, err := record.ApplyService(ctx, service.WithDefaults(), by); err != nil {
		return none, err
	}
	ids := make([]lifecycle.Digest, 2)
	for i, weights := range []string{"stable", "canary"} {
		release := lifecycle.Release{
			Service: name, Model: lifecycle.DigestOf([]byte(weights)),
			Prompt:     lifecycle.Prompt{System: "You answer questions about the standard library of Go in one or two sentences."},
			Parameters: lifecycle.Parameters{MaxTokens: 256, Override: true},
		}
		artifact := lifecycle.Artifact{ArtifactRef: lifecycle.ArtifactRef{Kind: lifecycle.ModelArtifact, Digest: release.Model}, Service: name}
		if err := record.AddArtifact(ctx, artifact); err != nil {
			return none, err
		}
		id, err := record.AddRelease(ctx, release, by)
		if err != nil {
			return none, err
		}
		ids[i] = id
		err = record.SetEndpoints(ctx, name, id, []lifecycle.Endpoint{{
			Release: id, URL: "http://" + model, Model: release.ServedName(), Capacity: capacity, Ready: true,
			Attribution: "verified", SeenAt: time.Now(),
		}})
		if err != nil {
			return none, err
		}
	}
	owner := lifecycle.Owner{Namespace: "refit", WorkflowID: "promote/" + name, FirstRunID: name}
	claim, err := record.TakeClaim(ctx, name, lifecycle.PromotionLoop, owner, by)
	if err != nil {
		return none, err
	}
	if _, err := record.SetFirstStable(ctx, registry.FirstStable{Service: name, Fence: claim.Fence, Release: ids[0], By: by}); err != nil {
		return none, err
	}
	err = record.StartRollout(ctx, registry.RolloutStart{
		Service: name, Fence: claim.Fence, ID: owner.FirstRunID, Release: ids[1], Owner: owner, By: by,
	})
	if err != nil {
		return none, err
	}
	_, err = record.SetShare(ctx, registry.ShareChange{
		Service: name, Fence: claim.Fence, Rollout: owner.FirstRunID, Share: share, By: by, Reason: "measure",
	})
	return claim, err
}

// renew keeps the canaries' leases, as a promotion's worker does.
func renew(ctx context.Context, record *registry.Registry, claims []lifecycle.Claim) {
	defer record.Close()
	ticker := time.NewTicker(lifecycle.LeaseRenewal)
	defer ticker.Stop()
	for {
		for _, claim := range claims {
			if _, err := record.RenewLease(ctx, claim.Service, claim.Fence); err != nil && ctx.Err() == nil {
				fmt.Println("the canary's lease is not renewed:", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Args is the command that runs the gateway.
func (c Config) Args() []string { return []string{filepath.Clean(c.Program), "gateway"} }
