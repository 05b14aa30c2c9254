package answer

import "strconv"

// freeKeys are numbers that a client sets as it likes: what is asked for, not how it is said.
var freeKeys = []string{"seed", "n"}

// maxNumber bounds the text of a number that a client wrote, in bytes; longer ones are not noted.
const maxNumber = 32

// inForce notes the numbers that a request is answered with, as assemble puts them: the release's, and the client's
// where they hold. Texts among the parameters (stop, logit_bias) are a client's own words and are not noted.
func (b *Bundle) inForce(a *asked) []byte {
	p := b.Release.Parameters
	out := append(make([]byte, 0, 128), '{')
	add := func(key string, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), key...), '"', ':'), value...)
	}
	// One of the release's own, or the client's where clients may override or may set it anyway.
	either := func(key string, ours []byte, free bool) {
		at, given := a.body.find(key)
		switch value := at.of(a.body.doc); {
		case !given || !free && !p.Override:
			if ours != nil {
				add(key, ours)
			}
		case isNumber(value):
			add(key, value)
		}
	}
	if a.endpoint == Images {
		if d := p.Diffusion; d != nil {
			either("num_inference_steps", strconv.AppendInt(nil, int64(d.Steps), 10), false)
			either("guidance_scale", number(d.Guidance), false)
			if d.Scheduler != "" {
				add("scheduler", quoted(d.Scheduler))
			}
		}
	} else if !a.score {
		for _, key := range samplingKeys {
			var ours []byte
			switch {
			case key == "stop", key == "logit_bias":
				continue
			case key == "temperature" && p.Temperature != nil:
				ours = number(*p.Temperature)
			case key == "top_p" && p.TopP != nil:
				ours = number(*p.TopP)
			}
			either(key, ours, false)
		}
		if n, ok := b.tokens(a); ok {
			add("max_tokens", strconv.AppendInt(nil, int64(n), 10))
		}
	}
	for _, key := range freeKeys {
		either(key, nil, true)
	}
	if a.endpoint == Chat && p.TopK > 0 {
		add("retrieve", strconv.AppendInt(nil, int64(p.TopK), 10))
	}
	return append(out, '}')
}

// tokens is the most that may be generated; false where neither release nor client says.
func (b *Bundle) tokens(a *asked) (int, bool) {
	p := b.Release.Parameters
	n, given, _ := a.count("max_completion_tokens")
	if !given {
		n, given, _ = a.count("max_tokens")
	}
	switch {
	case given && (p.Override || p.MaxTokens == 0 || n <= p.MaxTokens):
		return n, true
	case p.MaxTokens > 0:
		return p.MaxTokens, true
	}
	return 0, false
}

func isNumber(value []byte) bool {
	return len(value) > 0 && len(value) <= maxNumber && (value[0] == '-' || value[0] >= '0' && value[0] <= '9')
}
