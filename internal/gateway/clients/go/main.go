// Command clients runs the official client for Go against a gateway: go run . ADDRESS KEY LIMITED
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

func main() {
	if err := check(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "openai-go:", err)
		os.Exit(1)
	}
	fmt.Println("openai-go: all well")
}

func ask(content string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: "docs", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(content)},
	}
}

func same(what string, got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("%s: got %v, want %v", what, got, want)
	}
	return nil
}

func check(address, key, limited string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := openai.NewClient(option.WithBaseURL(address+"/v1"), option.WithAPIKey(key), option.WithMaxRetries(0))
	return errors.Join(chats(ctx, client), others(ctx, client), faults(ctx, client, limited), leaving(ctx, client))
}

func chats(ctx context.Context, client openai.Client) error {
	whole, err := client.Chat.Completions.New(ctx, ask("hello"))
	if err != nil {
		return err
	}
	withUsage := ask("hello")
	withUsage.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	streamed, err := accumulate(client, ctx, withUsage)
	if err != nil {
		return err
	}
	tools := ask("use a tool")
	tools.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "weather"})}
	called, err := client.Chat.Completions.New(ctx, tools)
	if err != nil {
		return err
	}
	calledInPieces, err := accumulate(client, ctx, tools)
	if err != nil {
		return err
	}
	const arguments = `{"city": "Ulm"}`
	return errors.Join(
		same("chat", whole.Choices[0].Message.Content, "hello there"),
		same("usage", whole.Usage.TotalTokens, int64(5)),
		same("stream", streamed.Choices[0].Message.Content, "hello there"),
		same("usage of a stream", streamed.Usage.TotalTokens, int64(5)),
		same("tool", called.Choices[0].Message.ToolCalls[0].Function.Arguments, arguments),
		same("tool in a stream", calledInPieces.Choices[0].Message.ToolCalls[0].Function.Arguments, arguments),
	)
}

func accumulate(client openai.Client, ctx context.Context, params openai.ChatCompletionNewParams) (openai.ChatCompletionAccumulator, error) {
	var all openai.ChatCompletionAccumulator
	stream := client.Chat.Completions.NewStreaming(ctx, params)
	defer stream.Close()
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	return all, stream.Err()
}

func others(ctx context.Context, client openai.Client) error {
	completed, err := client.Completions.New(ctx, openai.CompletionNewParams{
		Model: "docs", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("hello")},
	})
	if err != nil {
		return err
	}
	vectors, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{
		Model: "docs", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}},
	})
	if err != nil {
		return err
	}
	image, err := client.Images.Generate(ctx, openai.ImageGenerateParams{Model: "docs", Prompt: "a cat"})
	if err != nil {
		return err
	}
	models, err := client.Models.List(ctx)
	if err != nil {
		return err
	}
	model, err := client.Models.Get(ctx, "docs")
	if err != nil {
		return err
	}
	return errors.Join(
		same("completion", completed.Choices[0].Text, "hello there"),
		same("embeddings", vectors.Data[0].Embedding, []float64{1, 0.5}),
		same("image", image.Data[0].B64JSON, "AAAA"),
		same("models", len(models.Data), 1),
		same("model", model.ID, "docs"),
	)
}

func faults(ctx context.Context, client openai.Client, limited string) error {
	fails := func(status int, params openai.ChatCompletionNewParams, options ...option.RequestOption) error {
		_, err := client.Chat.Completions.New(ctx, params, options...)
		var fault *openai.Error
		if !errors.As(err, &fault) {
			return fmt.Errorf("%d was expected: %w", status, err)
		}
		if fault.Code == "" || fault.Type == "" || fault.Message == "" {
			return fmt.Errorf("%d without code, type or message", status)
		}
		return same("status", fault.StatusCode, status)
	}
	unknown, negative := ask("hello"), ask("hello")
	unknown.Model, negative.MaxTokens = "other", openai.Int(-1)
	if _, err := client.Chat.Completions.New(ctx, ask("hello"), option.WithAPIKey(limited)); err != nil {
		return err
	}
	return errors.Join(
		fails(429, ask("hello"), option.WithAPIKey(limited)),
		fails(404, unknown), fails(413, ask(strings.Repeat("x", 200_000))), fails(400, negative), fails(503, ask("busy")),
		fails(401, ask("hello"), option.WithAPIKey("refit-wrong")),
	)
}

func leaving(ctx context.Context, client openai.Client) error {
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := client.Chat.Completions.New(short, ask("wait")); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a time-out was expected: %w", err)
	}
	reading, leave := context.WithCancel(ctx)
	defer leave()
	stream := client.Chat.Completions.NewStreaming(reading, ask("wait"))
	first := stream.Next()
	leave()
	for stream.Next() {
	}
	if !first {
		return errors.New("the first event came only with the next")
	}
	if err := stream.Err(); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a stream that was left: %w", err)
	}
	return nil
}
