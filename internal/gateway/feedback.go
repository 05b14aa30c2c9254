package gateway

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

const (
	maxFeedback   = 64 << 10 // bytes of a request
	maxReason     = 500      // bytes
	maxID         = 128      // bytes of an ID that a client chose
	maxCorrection = 32 << 10 // bytes
)

// feedback takes what a user said of an interaction, also before it is stored. The same feedback sent twice counts once:
// it is known by client, interaction, and the client's ID for it or its kind. Of another client's interaction it is
// refused. Fields that are not known are refused, because a misspelt
// one would be lost in silence.
func (g *Gateway) feedback(w http.ResponseWriter, r *http.Request) {
	caller, p := g.keys.enter(w, r)
	if p != nil {
		g.refuseCaller(w, *p)
		return
	}
	body, p := readBody(w, r, maxFeedback)
	if p != nil {
		p.write(w)
		return
	}
	defer body.Free()
	var said struct {
		ID          string `json:"id"`
		Service     string `json:"service"`
		Interaction string `json:"interaction"`
		Kind        string `json:"kind"`
		Reason      string `json:"reason"`
		Correction  string `json:"correction"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body.Bytes()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&said); err != nil {
		badRequest("feedback is {service, interaction, kind, reason, correction, id} with text in each").write(w)
		return
	}
	if said.Service == "" {
		if lanes := g.allLanes(); len(lanes) == 1 {
			said.Service = lanes[0].name
		}
	}
	l := g.lane(said.Service)
	if l == nil || !caller.may(said.Service) {
		noService(said.Service).write(w)
		return
	}
	f := lifecycle.Feedback{
		ID: said.ID, Service: said.Service, Interaction: said.Interaction, Kind: said.Kind,
		Reason: said.Reason, Correction: said.Correction, At: g.config.Now().UTC(), Owner: caller.owns(),
	}
	if err := checkFeedback(f); err != nil {
		badRequest(err.Error()).write(w)
		return
	}
	if !g.signer.mayJudge(f.Service, f.Owner, f.Interaction) {
		notYours().write(w)
		return
	}
	// Scoped, so that no client's choice of an ID can keep another's feedback out.
	f.ID = string(lifecycle.DigestOf([]byte(strings.Join([]string{f.Service, f.Owner, f.Interaction, cmp.Or(said.ID, f.Kind)}, "\x00"))))[:32]
	l.texts().feedback(&f)
	switch err := g.config.Capture.Feedback(r.Context(), f); {
	case err == nil:
		writeJSON(w, http.StatusAccepted, map[string]string{"id": f.ID})
	case lifecycle.Is(err, lifecycle.Invalid):
		badRequest(err.Error()).write(w)
	default:
		g.config.Log.WarnContext(r.Context(), "feedback was not kept", "service", f.Service, "error", err)
		problem{
			status: http.StatusServiceUnavailable, kind: "server_error", code: "feedback_not_kept", retry: 5,
			message: "the feedback could not be kept; send it again",
		}.write(w)
	}
}

// notYours refuses feedback without saying whether there is such an interaction.
func notYours() problem {
	return problem{
		status: http.StatusForbidden, kind: "invalid_request_error", code: "not_your_interaction", param: "interaction",
		message: "no interaction of this service with this ID was given to this client; send the answer's x-refit-interaction with the key that asked",
	}
}

func checkFeedback(f lifecycle.Feedback) error {
	var faults lifecycle.Problems
	if f.Interaction == "" || len(f.Interaction) > maxID {
		faults.Add("interaction", "missing or too long", "give the answer's x-refit-interaction")
	}
	if !slices.Contains(lifecycle.FeedbackKinds(), f.Kind) {
		faults.Add("kind", "unknown", "give one of %s", strings.Join(lifecycle.FeedbackKinds(), ", "))
	}
	if len(f.ID) > maxID {
		faults.Add("id", "too long", "give at most %d bytes, or leave it out", maxID)
	}
	if len(f.Reason) > maxReason {
		faults.Add("reason", "too long", "give at most %d bytes", maxReason)
	}
	if len(f.Correction) > maxCorrection {
		faults.Add("correction", "too long", "give at most %d bytes", maxCorrection)
	}
	if f.Kind == "correction" && strings.TrimSpace(f.Correction) == "" {
		faults.Add("correction", "empty", "say what the answer should have been")
	}
	return faults.Err("feedback")
}
