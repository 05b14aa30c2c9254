package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/runtime/embedder"
	"github.com/refitml/refit/runtime/server"
)

// serving is what the command serve was told.
type serving struct {
	models, embedders           []string // NAME=DIR
	listen, address, accessFile string
	slots, queue                int
	drain                       time.Duration
}

func newServe(log *slog.Logger, code *int) *cobra.Command {
	var s serving
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve models and embedders with the OpenAI API", Args: cobra.NoArgs,
		Long: "Serve models and embedders with the OpenAI API.\n\nSIGTERM drains: no new requests are taken, and those that run may end.\n" +
			"Exit codes: 0 drained, 1 failed or requests had to be broken off, 2 usage.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(s.models)+len(s.embedders) == 0 {
				return errors.New("there is nothing to serve: give --model or --embedder")
			}
			err := s.run(cmd.Context(), log)
			if err != nil {
				*code = 1
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&s.models, "model", nil, "`NAME=DIR`: serve the model folder DIR as NAME; may be repeated")
	flags.StringArrayVar(&s.embedders, "embedder", nil, "`NAME=DIR`: serve the embedder folder DIR as NAME; may be repeated")
	flags.StringVar(&s.listen, "listen", "127.0.0.1:8080", "`ADDRESS` to listen on; port 0 chooses a free one")
	flags.StringVar(&s.address, "address-file", "", "`FILE` that gets host:port once it listens")
	flags.StringVar(&s.accessFile, "access-log", "", "`FILE` that gets one JSON line a request, without prompts and answers")
	flags.IntVar(&s.slots, "slots", 0, "requests computed at once (default 2 a core)")
	flags.IntVar(&s.queue, "queue", 0, "requests that may wait for that; more are refused (default 256)")
	flags.DurationVar(&s.drain, "drain", 8*time.Second, "how long running requests may take after SIGTERM")
	return cmd
}

func (s serving) run(ctx context.Context, log *slog.Logger) error {
	config := server.Config{Slots: s.slots, Queue: s.queue, Log: log}
	if s.accessFile != "" {
		file, err := os.OpenFile(s.accessFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("open the access log: %w", err)
		}
		defer file.Close()
		config.AccessLog = file
	}
	serves := server.New(config)
	if err := s.load(serves); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if s.address != "" {
		if err := replaceFile(s.address, listener.Addr().String()+"\n"); err != nil {
			return fmt.Errorf("write the address file: %w", err)
		}
	}
	log.Info("serving", "address", listener.Addr().String(), "models", s.models, "embedders", s.embedders)
	return serves.Serve(ctx, listener, s.drain)
}

func (s serving) load(into *server.Server) error {
	for _, each := range s.models {
		name, dir, err := named("--model", each)
		if err != nil {
			return err
		}
		model, err := server.LoadModel(dir)
		if err != nil {
			return err
		}
		if err := into.AddModel(name, model); err != nil {
			return err
		}
	}
	for _, each := range s.embedders {
		name, dir, err := named("--embedder", each)
		if err != nil {
			return err
		}
		model, err := embedder.Load(dir)
		if err != nil {
			return err
		}
		if err := into.AddEmbedder(name, model); err != nil {
			return err
		}
	}
	return nil
}

func named(flag, value string) (name, dir string, err error) {
	name, dir, ok := strings.Cut(value, "=")
	if !ok || dir == "" {
		return "", "", fmt.Errorf("%s %q: give NAME=DIR", flag, value)
	}
	return name, dir, nil
}

// replaceFile makes a file appear whole or not at all.
func replaceFile(path, content string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".writing-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // does nothing after the rename
	_, err = file.WriteString(content)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
