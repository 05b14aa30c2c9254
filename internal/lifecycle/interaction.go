package lifecycle

import (
	"encoding/json"
	"time"
)

// Interaction is one served request. Prompt and answer travel only to capture's store; nothing here
// is logged.
type Interaction struct {
	ID           string    `json:"id"` // given to the client as x-refit-interaction
	Service      string    `json:"service"`
	Conversation string    `json:"conversation"` // keyed hash; never the client's own text
	Turn         int       `json:"turn"`         // assistant turns before this one
	Client       string    `json:"client,omitempty"`
	Release      Digest    `json:"release"`
	Rollout      string    `json:"rollout,omitempty"` // in flight when it was admitted
	Step         int       `json:"step"`
	Canary       bool      `json:"canary"`
	Coin         bool      `json:"coin"`              // the conversation tossed one in this rollout
	Propensity   float64   `json:"propensity"`        // of the coin; 0 without one
	Moved        bool      `json:"moved,omitempty"`   // from canary to stable at this request
	Rescued      bool      `json:"rescued,omitempty"` // stable answered after the canary failed
	Endpoint     string    `json:"endpoint"`          // "chat", "completions", "embeddings", "images"
	Started      time.Time `json:"started"`           // when it was admitted: at one gateway, in the order of admission
	Latency      Latency   `json:"latency"`
	Usage        Usage     `json:"usage"`
	Outcome      string    `json:"outcome"` // "ok", "error", "refused", "canceled"
	Status       int       `json:"status"`
	Guardrails   []string  `json:"guardrails,omitempty"`
	Finish       string    `json:"finish,omitempty"`
	Passages     []string  `json:"passages,omitempty"` // chunk IDs, best first
	Input        string    `json:"input,omitempty"`    // last user text, where the service captures content
	Output       string    `json:"output,omitempty"`

	Owner      string          `json:"owner,omitempty"`      // keyed hash of the API key that asked; "" where none did
	Content    Content         `json:"content,omitempty"`    // what became of Input and Output
	Scores     []float64       `json:"scores,omitempty"`     // of Passages, in their order
	Parameters json.RawMessage `json:"parameters,omitempty"` // that the answer was made with, as one JSON object
	Used       Used            `json:"used,omitzero"`
}

// Content says what became of an interaction's input and output. The empty one is a former release's.
type Content string

// What may become of them.
const (
	ContentFull    Content = "full"        // kept, redacted where the service says so
	ContentNone    Content = "none"        // the service keeps none
	ContentSampled Content = "sampled-out" // the conversation is not in the sample
	ContentDropped Content = "dropped"     // given up for want of room, or damaged on disk
)

// Used names what the gateway itself served of a release: digests of its parts. Empty ones were not used. Under which
// weights an answer was made its release says.
type Used struct {
	Prompt      Digest `json:"prompt,omitempty"`
	Index       Digest `json:"index,omitempty"`
	Parameters  Digest `json:"parameters,omitempty"`
	PostProcess Digest `json:"post_process,omitempty"`
	RescuedBy   Digest `json:"rescued_by,omitempty"` // the release that answered where the interaction's own failed
}

// ShadowPrefix and the user's interaction are the ID of its copy to a shadow. The copy belongs to no rollout, whatever
// was in flight.
const ShadowPrefix = "shadow-"

// Latency per component, in seconds.
type Latency struct {
	Retrieval      float64 `json:"retrieval"`
	Queue          float64 `json:"queue,omitempty"` // for places on model servers
	FirstToken     float64 `json:"first_token"`
	Model          float64 `json:"model"`
	PostProcessing float64 `json:"post_processing"`
	Total          float64 `json:"total"`
}

// Usage counts tokens.
type Usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

// Feedback is what a user said of an interaction.
type Feedback struct {
	ID          string    `json:"id"` // chosen by the client or made from interaction and kind; sent twice it counts once
	Service     string    `json:"service"`
	Interaction string    `json:"interaction"`
	Kind        string    `json:"kind"`                 // "thumbs-up", "thumbs-down", "correction", "abandoned"
	Reason      string    `json:"reason,omitempty"`     // short code or text, bounded
	Correction  string    `json:"correction,omitempty"` // what the answer should have been
	At          time.Time `json:"at"`
	Owner       string    `json:"owner,omitempty"` // keyed hash of the API key that said it; "" where none did
}

// FeedbackKinds lists what feedback may say.
func FeedbackKinds() []string {
	return []string{"thumbs-up", "thumbs-down", "correction", "abandoned"}
}
