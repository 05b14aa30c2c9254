package artifacts

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/minio/minio-go/v7"

	"github.com/refitml/refit/internal/lifecycle"
)

// maxSignature bounds what is read of a signature, in bytes: it names every file.
const maxSignature = 2 * maxManifestBytes

// bundle is a Sigstore bundle (v0.3) with a public key's name in place of a certificate, as OpenSSF's model signing writes
// one.
type bundle struct {
	MediaType string             `json:"mediaType"`
	Material  bundleMaterial     `json:"verificationMaterial"`
	Envelope  lifecycle.Envelope `json:"dsseEnvelope"`
}

type bundleMaterial struct {
	PublicKey struct {
		Hint string `json:"hint"`
	} `json:"publicKey"`
}

const bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"

func (s *Store) signatureKey(ref lifecycle.ArtifactRef, keyID string) string {
	return s.cfg.Prefix + "signatures/" + string(ref.Kind) + "/" + string(ref.Digest) + "/" + keyID + ".sigstore.json"
}

// Sign signs an artifact that is there, with the store's key. Signing it again changes nothing.
func (s *Store) Sign(ctx context.Context, ref lifecycle.ArtifactRef) error {
	if s.cfg.Signer == nil {
		return lifecycle.Errorf(lifecycle.Invalid, "sign %s %s: this store has no key to sign with", ref.Kind, ref.Digest.Short())
	}
	m, err := s.unsigned(ctx, ref)
	if err != nil {
		return err
	}
	return s.sign(ctx, ref, m)
}

// sign writes the signature of a manifest. One that is there and does not hold is written anew: it is worth nothing.
func (s *Store) sign(ctx context.Context, ref lifecycle.ArtifactRef, m lifecycle.Manifest) error {
	if s.cfg.Signer == nil {
		return nil
	}
	public := s.cfg.Signer.Public().(ed25519.PublicKey)
	b := bundle{MediaType: bundleType, Envelope: lifecycle.Sign(s.cfg.Signer, lifecycle.StatementPayload, m.Statement())}
	b.Material.PublicKey.Hint = lifecycle.KeyID(public)
	body, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode the signature of %s %s: %w", ref.Kind, ref.Digest.Short(), err)
	}
	key := s.signatureKey(ref, b.Material.PublicKey.Hint)
	err = s.create(ctx, key, bytes.NewReader(body), digestsOf(body), "application/json")
	if lifecycle.Is(err, lifecycle.Conflict) {
		if _, err = s.signatureBy(ctx, ref, m, public); err != nil {
			_, err = s.client.Client.PutObject(ctx, s.cfg.Bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{ContentType: "application/json"})
			err = fault(ctx, err, "replace %s", key)
		}
	}
	return lifecycle.Wrap(err, "sign %s %s", ref.Kind, ref.Digest.Short())
}

// signed says whether a trusted key signed the artifact; where no key is trusted nothing is asked.
func (s *Store) signed(ctx context.Context, ref lifecycle.ArtifactRef, m lifecycle.Manifest) error {
	if len(s.cfg.Trusted) == 0 {
		return nil
	}
	_, err := s.trustedSignature(ctx, ref, m)
	return err
}

// trustedSignature gives the signature of a trusted key that holds.
func (s *Store) trustedSignature(ctx context.Context, ref lifecycle.ArtifactRef, m lifecycle.Manifest) ([]byte, error) {
	reason := lifecycle.Unsigned(string(ref.Kind)+" "+ref.Digest.Short(), s.cfg.Trusted)
	for _, key := range s.cfg.Trusted {
		body, err := s.signatureBy(ctx, ref, m, key)
		switch {
		case err == nil:
			return body, nil
		case lifecycle.Is(err, lifecycle.NotFound):
		case lifecycle.Is(err, lifecycle.Refused):
			reason = lifecycle.Wrap(err, "%s %s", ref.Kind, ref.Digest.Short())
		default:
			return nil, err // nobody knows
		}
	}
	return nil, reason
}

func (s *Store) signatureBy(ctx context.Context, ref lifecycle.ArtifactRef, m lifecycle.Manifest, key ed25519.PublicKey) ([]byte, error) {
	body, err := s.readObject(ctx, s.signatureKey(ref, lifecycle.KeyID(key)), maxSignature)
	if err != nil {
		return nil, err
	}
	return body, holds(body, m, key)
}

func holds(body []byte, m lifecycle.Manifest, keys ...ed25519.PublicKey) error {
	var b bundle
	if err := json.Unmarshal(body, &b); err != nil {
		return lifecycle.Errorf(lifecycle.Refused, "its signature cannot be read: %w", err)
	}
	return m.VerifySigned(b.Envelope, keys)
}

// signed is the store's, with a copy of the signature that held, so that what is cached can be trusted without the store.
func (c *Cache) signed(ctx context.Context, ref lifecycle.ArtifactRef, m lifecycle.Manifest) error {
	trusted := c.store.cfg.Trusted
	if len(trusted) == 0 {
		return nil
	}
	path := filepath.Join(c.root, "manifests", string(ref.Kind)+"-"+string(ref.Digest)+".sigstore.json")
	if body, err := os.ReadFile(path); err == nil && holds(body, m, trusted...) == nil {
		return nil
	}
	body, err := c.store.trustedSignature(ctx, ref, m)
	if err != nil {
		return err
	}
	return lifecycle.Wrap(writeAtomic(path, body), "keep the signature of %s %s", ref.Kind, ref.Digest.Short())
}
