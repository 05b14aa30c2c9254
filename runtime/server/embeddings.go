package server

import (
	"encoding/base64"
	"encoding/binary"
	"math"
)

type embeddingsRequest struct {
	Model          string     `json:"model"`
	Input          tokenLists `json:"input"`
	EncodingFormat string     `json:"encoding_format"` // float or base64
	Dimensions     *int       `json:"dimensions"`
}

type embeddingsAnswer struct {
	Object string         `json:"object"`
	Data   []embedding    `json:"data"`
	Model  string         `json:"model"`
	Usage  embeddingUsage `json:"usage"`
}

type embedding struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32, or base64 of them, little-endian
}

type embeddingUsage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

const maxInputs = 2048

func (s *Server) embeddings(x *exchange) error {
	var in embeddingsRequest
	if err := x.read(&in); err != nil {
		return err
	}
	embedder := s.embedders[in.Model]
	if embedder == nil {
		return unknownModel(in.Model, "embeddings")
	}
	x.model = in.Model
	switch n := in.Input.count(); {
	case len(in.Input.tokens) > 0:
		return invalid("input", "lists of tokens are not supported; give texts")
	case n == 0 || n > maxInputs:
		return invalid("input", "%d texts; give 1 to %d", n, maxInputs)
	case in.EncodingFormat != "" && in.EncodingFormat != "float" && in.EncodingFormat != "base64":
		return invalid("encoding_format", "give float or base64")
	case differs(in.Dimensions, embedder.Dimension()):
		return invalid("dimensions", "is %d; this model has %d", *in.Dimensions, embedder.Dimension())
	}
	release, err := x.admit()
	if err != nil {
		return err
	}
	defer release()
	answer := embeddingsAnswer{Object: "list", Model: in.Model}
	for i, text := range in.Input.texts {
		if err := x.r.Context().Err(); err != nil {
			return err
		}
		vector, tokens := embedder.Embed(text)
		e := embedding{Object: "embedding", Index: i, Embedding: vector}
		if in.EncodingFormat == "base64" {
			e.Embedding = packed(vector)
		}
		answer.Data = append(answer.Data, e)
		x.usage.PromptTokens += tokens
	}
	x.usage.TotalTokens = x.usage.PromptTokens
	answer.Usage = embeddingUsage{x.usage.PromptTokens, x.usage.TotalTokens}
	return x.whole(answer)
}

func packed(vector []float32) string {
	raw := make([]byte, 0, 4*len(vector))
	for _, v := range vector {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return base64.StdEncoding.EncodeToString(raw)
}
