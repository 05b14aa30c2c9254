package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/artifacts"
	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/registry"
)

// signed says what a command signed of a service.
type signed struct {
	Service   string   `json:"service"`
	KeyID     string   `json:"key_id"`
	Artifacts int      `json:"artifacts"`
	Releases  int      `json:"releases"`
	Missing   []string `json:"missing,omitempty"` // artifacts that the record names and S3 has not
}

func newSign(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "sign SERVICE | --all", Short: "Sign everything that is recorded of a service, or of all", Args: cobra.MaximumNArgs(1),
		Long: "Sign all artifacts and releases that are recorded of a service, with signing.private_key_file, else with the key that\n" +
			"`refit up` makes under data: what was made before signatures were asked for, or with a new key before the old one is\n" +
			"trusted no more. It goes to the registry and to S3 itself, and vouches for what is there: look at it first. Signing again\n" +
			"changes nothing. Workers and the console sign what they make by themselves.",
	}
	cmd.Flags().BoolVar(&all, "all", false, "of every service")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) == 1) {
			return lifecycle.Errorf(lifecycle.Invalid, "sign: name a service, or give --all")
		}
		settings, err := configs.Load(a.settings)
		if err != nil {
			return err
		}
		out, err := sign(cmd.Context(), settings, args)
		return a.report(out, err, func(w io.Writer) {
			for _, s := range out {
				fmt.Fprintf(w, "signed %d artifacts and %d releases of %s with key %s\n", s.Artifacts, s.Releases, s.Service, s.KeyID[:12])
				for _, m := range s.Missing {
					fmt.Fprintf(w, "%s is recorded and not in S3\n", m)
				}
			}
		})
	}
	return cmd
}

// sign signs what is recorded of the services; of all where none is named.
func sign(ctx context.Context, settings configs.Settings, services []string) ([]signed, error) {
	keys, err := openSigning(settings)
	if err != nil {
		return nil, err
	}
	if keys.signer == nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid,
			"signing.private_key_file: missing (or signing.off is set); make one with: openssl genpkey -algorithm ed25519")
	}
	keys.trusted = nil // what is signed here need not be signed by others
	store, err := openStore(settings.S3, keys, nil)
	if err != nil {
		return nil, err
	}
	record, err := registry.Open(ctx, registry.Config{URL: settings.Registry.URL, Signer: keys.signer})
	if err != nil {
		return nil, err
	}
	defer record.Close()
	if len(services) == 0 {
		declared, err := record.Services(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range declared {
			services = append(services, d.Service)
		}
	}
	list := []signed{}
	for _, service := range services {
		out, err := signService(ctx, record, store, service)
		if err != nil {
			return list, lifecycle.Wrap(err, "sign what is recorded of %s", service)
		}
		out.KeyID = keys.id()
		list = append(list, out)
	}
	return list, nil
}

func signService(ctx context.Context, record *registry.Registry, store *artifacts.Store, service string) (signed, error) {
	out := signed{Service: service}
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
	return out, nil
}
