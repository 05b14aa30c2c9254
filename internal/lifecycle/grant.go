package lifecycle

import (
	"crypto/ed25519"
	"time"
)

// Grant is an approval: one person lets one release into one step of one workflow run. It holds no
// secret, is useless anywhere else, and is checked without asking anybody.
type Grant struct {
	WorkflowID string    `json:"workflow_id"`
	FirstRunID string    `json:"first_run_id"`
	Step       int       `json:"step"`
	Release    Digest    `json:"release"`
	Approver   string    `json:"approver"`
	Expires    time.Time `json:"expires"`
	Nonce      string    `json:"nonce"`
	Signature  []byte    `json:"signature"` // ed25519 over the canonical form without it
}

// Sign makes the grant valid for who knows the public key.
func (g Grant) Sign(key ed25519.PrivateKey) Grant {
	g.Signature = ed25519.Sign(key, g.message())
	return g
}

// Verify refuses a grant that is not for this owner, step and release, has expired at now, or was
// not signed by the key's holder. Without a key every grant is refused.
func (g Grant) Verify(key ed25519.PublicKey, owner Owner, step int, release Digest, now time.Time) error {
	switch {
	case len(key) != ed25519.PublicKeySize:
		return Errorf(Refused, "approval: this worker has no grant key; set grants.public_key")
	case !ed25519.Verify(key, g.message(), g.Signature):
		return Errorf(Refused, "approval: the signature does not match; approve with `refit approve`")
	case g.WorkflowID != owner.WorkflowID || g.FirstRunID != owner.FirstRunID:
		return Errorf(Refused, "approval: it was given for another run")
	case g.Step != step || g.Release != release:
		return Errorf(Refused, "approval: it was given for step %d of release %s", g.Step, g.Release.Short())
	case !now.Before(g.Expires):
		return Errorf(Refused, "approval: it expired at %s", g.Expires.Format(time.RFC3339))
	case g.Approver == "" || g.Nonce == "":
		return Errorf(Refused, "approval: approver or nonce is missing")
	}
	return nil
}

func (g Grant) message() []byte {
	g.Signature = nil
	return canonical(g)
}
