package answer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestImagesAreMadeByTheReleasesParameters(t *testing.T) {
	t.Parallel()
	name := "refit-" + model.Short()
	said := `{"created":1,"data":[{"b64_json":"AAAA","revised_prompt":"a secret cat"}],"usage":{"input_tokens":3,"output_tokens":7,"total_tokens":10}, "x":1.50}`
	for what, tc := range map[string]struct {
		change     func(*lifecycle.Release)
		body, want string
	}{
		"a release without any": {nil,
			`{"model":"art","prompt":"a cat","n":1,"size":"64x64","num_inference_steps":500,"seed":7}`,
			`{"model":"` + name + `","prompt":"a cat","n":1,"size":"64x64","seed":7}`},
		"the release's": {
			func(r *lifecycle.Release) {
				r.Parameters.Diffusion = &lifecycle.Diffusion{Scheduler: "euler", Steps: 20, Guidance: 3.5}
			},
			`{"prompt":"a cat","steps":500,"guidance_scale":9,"user":"u"}`,
			`{"model":"` + name + `","num_inference_steps":20,"scheduler":"euler","prompt":"a cat","guidance_scale":3.5,"user":"u"}`},
		"the client's where the release says so": {
			func(r *lifecycle.Release) {
				r.Parameters.Override = true
				r.Parameters.Diffusion = &lifecycle.Diffusion{Steps: 20}
			},
			`{"prompt":"a cat","num_inference_steps":4}`,
			`{"model":"` + name + `","guidance_scale":0,"prompt":"a cat","num_inference_steps":4}`},
		"nothing of a chat's": {
			func(r *lifecycle.Release) {
				r.Prompt.System, r.Parameters.MaxTokens = "be brief", 5
				r.PostProcess = []lifecycle.Rule{{Kind: lifecycle.RuleDenyPattern, Value: "secret"}}
			},
			`{"prompt":"a cat"}`, `{"model":"` + name + `","prompt":"a cat"}`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			m := newModelServer(t, saying(said))
			c, result, err := ask(t, ready(t, tc.change, nil), m, Images, tc.body)
			require.NoError(t, err)
			require.Equal(t, tc.want, m.asked(t))
			require.Equal(t, "/v1/images/generations", m.paths[0])
			require.Equal(t, said, c.body.String())
			require.Equal(t, lifecycle.Usage{Prompt: 3, Completion: 7}, result.Usage)
			require.Equal(t, "a cat", result.Input)
		})
	}
	for what, body := range map[string]string{
		"a stream": `{"prompt":"a","stream":true}`, "no prompt": `{}`, "a prompt that is none": `{"prompt":["a"]}`,
		"steps in another case": `{"prompt":"a","Num_Inference_Steps":5}`,
	} {
		_, err := Read(Images, []byte(body))
		require.True(t, lifecycle.Is(err, lifecycle.Invalid), "%s: %v", what, err)
	}
	m := newModelServer(t, saying(`{"created":1}`))
	_, _, err := ask(t, ready(t, nil, nil), m, Images, `{"prompt":"a"}`)
	require.True(t, lifecycle.Is(err, lifecycle.Unavailable), "an answer without images: %v", err)
}
