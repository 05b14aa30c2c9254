package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func newAPIKeys(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "keys", Short: "Make, list and revoke the API keys of a gateway's clients",
		Long: "Make, list and revoke the API keys that clients send to gateways as `Authorization: Bearer KEY`. They let\n" +
			"nobody in at the control API. Of a key only its hash is stored; gateways hear of a change within a second.",
	}
	cmd.AddCommand(newCreateKey(a), newListKeys(a), newRevokeKey(a))
	return cmd
}

func newCreateKey(a *app) *cobra.Command {
	var in control.CreateKeyInput
	var valid time.Duration
	cmd := &cobra.Command{
		Use: "create SERVICE...", Short: "Make a key and show it once", Args: cobra.MinimumNArgs(1),
		Long: "Make a key that may ask the given services. It is printed once and cannot be shown again; its first 16\n" +
			"characters are its ID. Limits hold at each gateway: no minute there sees more requests than that; tokens are\n" +
			"counted when an answer ends, so answers that are under way may bring a key over its limit.",
	}
	cmd.Flags().StringVar(&in.Name, "name", "", "whose key it is, for people and for the ledger (required)")
	cmd.Flags().Int64Var(&in.RequestsPerMinute, "requests", 0, "requests a minute at each gateway (default: no limit)")
	cmd.Flags().Int64Var(&in.TokensPerMinute, "tokens", 0, "tokens a minute at each gateway (default: no limit)")
	cmd.Flags().DurationVar(&valid, "valid", 0, "how long it is valid, for example 720h (default: until it is revoked)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Services = args
		if valid < 0 {
			return lifecycle.Errorf(lifecycle.Invalid, "--valid: %s; give a time to come", valid)
		}
		if valid > 0 {
			in.ExpiresAt = time.Now().Add(valid).UTC().Truncate(time.Second)
		}
		made, err := call(a, cmd, control.CreateKey, in)
		err = a.report(made, err, func(w io.Writer) { fmt.Fprintln(w, made.Secret) })
		if err == nil && !a.asJSON() {
			fmt.Fprintf(a.diagnostics, "key %s of %s for %s; this was the only time that it is shown\n", made.Key.ID, made.Key.Name, strings.Join(made.Key.Services, ", "))
		}
		return err
	}
	return cmd
}

func newListKeys(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list [SERVICE]", Short: "List keys, newest first: a service's, or all", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := call(a, cmd, control.Keys, control.KeysInput{Service: strings.Join(args, "")})
			return a.report(keys, err, func(w io.Writer) {
				var rows [][]string
				for _, k := range keys {
					rows = append(rows, []string{
						k.ID, k.Name, strings.Join(k.Services, ","), perMinute(k.RequestsPerMinute), perMinute(k.TokensPerMinute),
						at(k.CreatedAt), k.CreatedBy.Name, at(k.ExpiresAt), at(k.RevokedAt),
					})
				}
				table(w, []string{"ID", "NAME", "SERVICES", "REQUESTS/MIN", "TOKENS/MIN", "CREATED", "BY", "EXPIRES", "REVOKED"}, rows)
			})
		},
	}
}

func perMinute(limit int64) string {
	if limit == 0 {
		return "-"
	}
	return strconv.FormatInt(limit, 10)
}

func newRevokeKey(a *app) *cobra.Command {
	var in control.RevokeKeyInput
	cmd := &cobra.Command{
		Use: "revoke ID", Short: "End a key for good", Args: cobra.ExactArgs(1),
		Long: "End a key for good. Gateways that reach the registry refuse it within a second; one that does not goes on\n" +
			"with the keys that it knows, until it hears otherwise or the key expires.",
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.ID = args[0]
		key, err := call(a, cmd, control.RevokeKey, in)
		return a.report(key, err, func(w io.Writer) { fmt.Fprintf(w, "key %s of %s revoked %s\n", key.ID, key.Name, at(key.RevokedAt)) })
	}
	return cmd
}
