package peers

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/bytedance/sonic"
	"github.com/maximhq/bifrost/core"
	"github.com/maximhq/bifrost/core/schemas"
	"github.com/valyala/fasthttp"
)

// account is Bifrost's configuration: one provider of OpenAI's kind before one server, with pools as large as its
// documentation advises for high throughput.
type account struct{ model string }

func (a account) GetConfiguredProviders() ([]schemas.ModelProvider, error) {
	return []schemas.ModelProvider{schemas.OpenAI}, nil
}

func (a account) GetKeysForProvider(context.Context, schemas.ModelProvider) ([]schemas.Key, error) {
	return []schemas.Key{{ID: "bench", Name: "bench", Value: *schemas.NewEnvVar("sk-bench"), Models: []string{}, Weight: 1}}, nil
}

func (a account) GetConfigForProvider(schemas.ModelProvider) (*schemas.ProviderConfig, error) {
	return &schemas.ProviderConfig{
		NetworkConfig:            schemas.NetworkConfig{BaseURL: "http://" + a.model, DefaultRequestTimeoutInSeconds: 60},
		ConcurrencyAndBufferSize: schemas.ConcurrencyAndBufferSize{Concurrency: 1000, BufferSize: 5000},
	}, nil
}

// ServeBifrost puts Bifrost's core behind the server and the JSON library that its own HTTP transport uses: read the
// request, let the core ask the model, write what it gives.
func ServeBifrost(ctx context.Context, listener net.Listener, model string) error {
	client, err := bifrost.Init(ctx, schemas.BifrostConfig{
		Account: account{model}, InitialPoolSize: 5000, Logger: bifrost.NewDefaultLogger(schemas.LogLevelError),
	})
	if err != nil {
		return fmt.Errorf("start Bifrost's core: %w", err)
	}
	defer client.Shutdown()
	server := &fasthttp.Server{NoDefaultServerHeader: true, MaxRequestBodySize: 16 << 20, Handler: func(ctx *fasthttp.RequestCtx) {
		answerChat(client, ctx)
	}}
	return server.Serve(listener)
}

type chat struct {
	Model    string                `json:"model"`
	Messages []schemas.ChatMessage `json:"messages"`
	Stream   bool                  `json:"stream"`
}

func answerChat(client *bifrost.Bifrost, ctx *fasthttp.RequestCtx) {
	var asked chat
	if err := sonic.Unmarshal(ctx.PostBody(), &asked); err != nil {
		ctx.Error(err.Error(), fasthttp.StatusBadRequest)
		return
	}
	request := &schemas.BifrostChatRequest{Provider: schemas.OpenAI, Model: asked.Model, Input: asked.Messages}
	if asked.Stream {
		streamChat(client, ctx, request)
		return
	}
	asking, cancel := schemas.NewBifrostContextWithCancel(context.Background())
	defer cancel()
	response, fault := client.ChatCompletionRequest(asking, request)
	if fault != nil {
		refuse(ctx, fault)
		return
	}
	body, err := sonic.Marshal(response)
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/json")
	ctx.Response.SetBodyRaw(body)
}

func refuse(ctx *fasthttp.RequestCtx, fault *schemas.BifrostError) {
	body, err := json.Marshal(fault)
	if err != nil {
		body = []byte(err.Error())
	}
	ctx.Error(string(body), fasthttp.StatusBadGateway)
}

func streamChat(client *bifrost.Bifrost, ctx *fasthttp.RequestCtx, request *schemas.BifrostChatRequest) {
	asking, cancel := schemas.NewBifrostContextWithCancel(context.Background())
	chunks, fault := client.ChatCompletionStreamRequest(asking, request)
	if fault != nil {
		cancel()
		refuse(ctx, fault)
		return
	}
	ctx.SetContentType("text/event-stream")
	ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		defer cancel()
		for chunk := range chunks {
			body, err := sonic.Marshal(chunk)
			if err != nil {
				return
			}
			for _, part := range [][]byte{[]byte("data: "), body, []byte("\n\n")} {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
			if w.Flush() != nil {
				return
			}
		}
		if _, err := w.WriteString("data: [DONE]\n\n"); err == nil {
			_ = w.Flush() // the stream is over either way
		}
	})
}
