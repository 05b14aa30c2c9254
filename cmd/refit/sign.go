package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// signed says what a command signed.
type signed struct {
	Service   string   `json:"service"`
	KeyID     string   `json:"key_id"`
	Artifacts int      `json:"artifacts"`
	Releases  int      `json:"releases"`
	Missing   []string `json:"missing,omitempty"` // artifacts that the record names and S3 has not
}

func newSign(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "sign SERVICE", Short: "Sign everything that is recorded of a service", Args: cobra.ExactArgs(1),
		Long: "Sign all artifacts and releases that are recorded of a service, with signing.private_key_file: before signatures are asked\n" +
			"for (signing.public_key_files), or with a new key before the old one is trusted no more. It goes to the registry and to\n" +
			"S3 itself. Signing again changes nothing. Workers and the console sign what they make by themselves.",
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := configs.Load(a.settings)
			if err != nil {
				return err
			}
			out, err := sign(cmd.Context(), settings, args[0])
			return a.report(out, err, func(w io.Writer) {
				fmt.Fprintf(w, "signed %d artifacts and %d releases of %s with key %s\n", out.Artifacts, out.Releases, out.Service, out.KeyID[:12])
				for _, m := range out.Missing {
					fmt.Fprintf(w, "%s is recorded and not in S3\n", m)
				}
			})
		},
	}
}

func sign(ctx context.Context, settings configs.Settings, service string) (signed, error) {
	out := signed{Service: service}
	signer, _, err := signingKeys(settings.Signing)
	if err != nil {
		return out, err
	}
	if signer == nil {
		return out, lifecycle.Errorf(lifecycle.Invalid, "signing.private_key_file: missing; make one with: openssl genpkey -algorithm ed25519")
	}
	settings.Signing.PublicKeyFiles = nil // what is signed here need not be signed by others
	store, err := openStore(settings, nil)
	if err != nil {
		return out, err
	}
	record, err := registry.Open(ctx, registry.Config{URL: settings.Registry.URL, Signer: signer})
	if err != nil {
		return out, err
	}
	defer record.Close()
	if _, err := record.ServiceVersion(ctx, service); err != nil {
		return out, err
	}
	refs, err := record.Artifacts(ctx, service)
	if err != nil {
		return out, err
	}
	for _, ref := range refs {
		err := store.Sign(ctx, ref)
		if lifecycle.Is(err, lifecycle.NotFound) {
			out.Missing = append(out.Missing, string(ref.Kind)+" "+string(ref.Digest))
			continue
		}
		if err != nil {
			return out, err
		}
		out.Artifacts++
	}
	releases, err := record.Releases(ctx, service, 1_000_000)
	if err != nil {
		return out, err
	}
	for _, r := range releases {
		if err := record.SignRelease(ctx, r.Release); err != nil {
			return out, err
		}
		out.Releases++
	}
	out.KeyID = lifecycle.KeyID(signer.Public().(ed25519.PublicKey))
	return out, nil
}
