package lifecycle

import (
	"crypto/ed25519"
	"strings"
	"time"
)

// Grant is what one person allows one workflow run: to let a release into a step, or, with BreakGlass as its purpose,
// to change what serves in a freeze until the grant expires. It holds no secret, is useless anywhere else, and is
// checked without asking anybody.
type Grant struct {
	Purpose    string    `json:"purpose,omitempty"` // empty: approves a step; else one of the purposes below, or the name of an Update
	WorkflowID string    `json:"workflow_id"`
	FirstRunID string    `json:"first_run_id"`
	Step       int       `json:"step"`
	Release    Digest    `json:"release"`
	Approver   string    `json:"approver"`
	Reason     string    `json:"reason,omitempty"`
	Expires    time.Time `json:"expires"`
	Nonce      string    `json:"nonce"`
	Input      Digest    `json:"input,omitempty"` // of a start: of the input as it is sent
	Signature  []byte    `json:"signature"`       // ed25519 over the canonical form without it
}

// Sign makes the grant valid for who knows the public key.
func (g Grant) Sign(key ed25519.PrivateKey) Grant {
	g.Signature = ed25519.Sign(key, g.message())
	return g
}

// StartedBy is the purpose of a grant that proves who started a run. It is made before there is a run, so it names none: it
// is good for one input under one workflow ID, for a short time, and once.
const StartedBy = "start"

// StartTime is how long after its signature a run may begin that shows a StartedBy.
const StartTime = 5 * time.Minute

// VerifyStart refuses what does not prove that its approver started a workflow of this ID with this input at that time.
// Whether it was shown before is not known here.
func (g Grant) VerifyStart(key ed25519.PublicKey, workflowID string, input Digest, at time.Time) error {
	err := g.verify(key, Owner{WorkflowID: workflowID}, "", at)
	switch {
	case err != nil:
		return err
	case g.Purpose != StartedBy || g.Input == "" || g.Input != input:
		return Errorf(Refused, "start: the grant is for something else")
	}
	return nil
}

// VerifyIntervention refuses what does not prove that its approver sent an Update of this name and key to the owner.
func (g Grant) VerifyIntervention(key ed25519.PublicKey, owner Owner, name, nonce string, now time.Time) error {
	err := g.verify(key, owner, "", now)
	switch {
	case err != nil:
		return err
	case name == "" || g.Purpose != name || g.Nonce != nonce:
		return Errorf(Refused, "%s: the grant is for something else", name)
	}
	return nil
}

// BreakGlass is the purpose of a grant that lets one run go on in a freeze.
const BreakGlass = "break-glass"

// MaxBreakGlass bounds how long a glass stays broken.
const MaxBreakGlass = 24 * time.Hour

// Verify refuses a grant that is not an approval of this owner, step and release, has expired at now, or was
// not signed by the key's holder. Without a key every grant is refused.
func (g Grant) Verify(key ed25519.PublicKey, owner Owner, step int, release Digest, now time.Time) error {
	err := g.verify(key, owner, release, now)
	switch {
	case err != nil:
		return err
	case g.Purpose != "":
		return Errorf(Refused, "approval: the grant is for %s", g.Purpose)
	case g.Step != step:
		return Errorf(Refused, "approval: it was given for step %d of release %s", g.Step, g.Release.Short())
	}
	return nil
}

// VerifyBreakGlass is Verify for a grant that breaks the glass: it says why, and expires within MaxBreakGlass.
func (g Grant) VerifyBreakGlass(key ed25519.PublicKey, owner Owner, release Digest, now time.Time) error {
	err := g.verify(key, owner, release, now)
	switch {
	case err != nil:
		return err
	case g.Purpose != BreakGlass:
		return Errorf(Refused, "break-glass: the grant is for something else")
	case strings.TrimSpace(g.Reason) == "" || len(g.Reason) > MaxReason:
		return Errorf(Refused, "break-glass: give a reason of at most %d bytes", MaxReason)
	case g.Expires.Sub(now) > MaxBreakGlass:
		return Errorf(Refused, "break-glass: it would last until %s; give at most %s", g.Expires.Format(time.RFC3339), MaxBreakGlass)
	}
	return nil
}

func (g Grant) verify(key ed25519.PublicKey, owner Owner, release Digest, now time.Time) error {
	switch {
	case len(key) != ed25519.PublicKeySize:
		return Errorf(Refused, "approval: this worker has no grant key; set grants.public_key")
	case !ed25519.Verify(key, g.message(), g.Signature):
		return Errorf(Refused, "approval: the signature does not match; approve with `refit approve`")
	case g.WorkflowID != owner.WorkflowID || g.FirstRunID != owner.FirstRunID:
		return Errorf(Refused, "approval: it was given for another run")
	case g.Release != release:
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
