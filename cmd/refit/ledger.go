package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

func newLedger(a *app) *cobra.Command {
	in := control.LedgerInput{}
	var kinds []string
	cmd := &cobra.Command{Use: "ledger SERVICE", Short: "Read, verify and export a service's append-only history", Args: cobra.ExactArgs(1)}
	cmd.Flags().Int64Var(&in.After, "after", 0, "begin after this sequence number (default: the newest entries)")
	cmd.Flags().IntVar(&in.Limit, "limit", 100, "at most so many")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only entries of these kinds")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		in.Service = args[0]
		for _, k := range kinds {
			in.Kinds = append(in.Kinds, lifecycle.LedgerKind(k))
		}
		entries, err := call(a, cmd, control.Ledger, in)
		return a.report(entries, err, func(w io.Writer) { ledgerTable(w, entries) })
	}
	cmd.AddCommand(newLedgerVerify(a), newLedgerAt(a), newLedgerExport(a), newLedgerEvidence(a))
	return cmd
}

func ledgerTable(w io.Writer, entries []lifecycle.LedgerEntry) {
	var rows [][]string
	for _, e := range entries {
		rows = append(rows, []string{
			fmt.Sprint(e.Sequence), at(e.At), string(e.Kind), shorten(e.Subject), e.Who(), e.Reason,
		})
	}
	table(w, []string{"SEQ", "AT", "KIND", "SUBJECT", "ACTOR", "REASON"}, rows)
}

func newLedgerVerify(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "verify SERVICE", Short: "Check every entry against the chain and the anchors in S3", Args: cobra.ExactArgs(1),
		Long: "Check that every entry is what was written: its hash and the one before it, and the anchors in S3 that nobody can\n" +
			"delete. Entries that were changed, removed, put in or written anew are named, and the command exits 1; it does so,\n" +
			"too, where the anchors cannot be read. --file checks an export instead, by its chain alone.",
	}
	cmd.Flags().StringVar(&file, "file", "", "an export of the ledger; needs no Refit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		verdict, err := verifyFile(args[0], file)
		if file == "" {
			verdict, err = call(a, cmd, control.VerifyLedger, control.LedgerService{Service: args[0]})
		}
		err = a.report(verdict, err, func(w io.Writer) {
			fmt.Fprintf(w, "%d entries, head %s; %d anchors vouch for them up to entry %d", verdict.Entries, verdict.Head.Short(), verdict.Anchors, verdict.Anchored)
			if verdict.Unlocked > 0 {
				fmt.Fprintf(w, "; %d of them are not locked and could be deleted", verdict.Unlocked)
			}
			fmt.Fprintln(w)
			for _, f := range verdict.Faults {
				fmt.Fprintf(w, "entry %d %s: %s\n", f.Sequence, f.Fault, f.Detail)
			}
		})
		if err != nil || file != "" && len(verdict.Faults) == 0 {
			return err
		}
		return verdict.Err()
	}
	return cmd
}

func verifyFile(service, path string) (v control.LedgerVerdict, err error) {
	if path == "" {
		return v, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return v, lifecycle.Errorf(lifecycle.Invalid, "--file: %w", err)
	}
	defer file.Close()
	v.Unread = "an export has none"
	v.LedgerAudit, err = lifecycle.AuditLedger(service, exported(file), lifecycle.NotCounted, nil)
	return v, err
}

// exported reads an export's lines.
func exported(r io.Reader) iter.Seq2[lifecycle.Chained, error] {
	return func(yield func(lifecycle.Chained, error) bool) {
		decoder := json.NewDecoder(bufio.NewReader(r))
		decoder.DisallowUnknownFields()
		for n := 1; ; n++ {
			var e lifecycle.Chained
			err := decoder.Decode(&e)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				err = lifecycle.Errorf(lifecycle.Invalid, "--file: entry %d: %w", n, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

func newLedgerExport(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "export SERVICE", Short: "Write all entries with their hashes, one JSON object a line", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := json.NewEncoder(a.out)
			for after := int64(0); ; {
				page, err := call(a, cmd, control.ExportLedger, control.LedgerPage{Service: args[0], After: after})
				if err != nil || len(page) == 0 {
					return err
				}
				for _, e := range page {
					if err := out.Encode(e); err != nil {
						return fmt.Errorf("write the export: %w", err)
					}
					after = e.Sequence
				}
			}
		},
	}
}

func newLedgerEvidence(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "evidence SERVICE RELEASE", Short: "Write all that is recorded of a release as one JSON object", Args: cobra.ExactArgs(2),
		Long: "Write what a release is, who signed it, the verdicts on it, its rollouts with their steps and whom they touched, and every\n" +
			"entry of the ledger that is about it, with hashes and anchors. Reports are named by their digests.",
		RunE: func(cmd *cobra.Command, args []string) error {
			bundle, err := call(a, cmd, control.Evidence, control.EvidenceInput{Service: args[0], Release: args[1]})
			if err != nil {
				return err
			}
			a.printJSON(bundle)
			return nil
		},
	}
}

func newLedgerAt(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "at SERVICE TIME", Short: "Say what served at a moment, who let it and on which evidence", Args: cobra.ExactArgs(2),
		Example: "  refit ledger at docs-assistant 2026-05-03T14:03:00+02:00\n  refit ledger at docs-assistant '2026-05-03 14:03'   # this machine's time zone",
		RunE: func(cmd *cobra.Command, args []string) error {
			moment, err := parseMoment(args[1])
			if err != nil {
				return err
			}
			served, err := call(a, cmd, control.Served, control.ServedInput{Service: args[0], At: moment})
			return a.report(served, err, func(w io.Writer) {
				fmt.Fprintf(w, "at %s stable was %s", served.At.Format(time.RFC3339), orNone(served.Stable))
				if served.Canary != "" {
					fmt.Fprintf(w, ", and %s was the canary with %s", served.Canary.Short(), served.Share)
				}
				fmt.Fprintln(w)
				for _, l := range served.Lapses {
					fmt.Fprintf(w, "the canary's lease lapsed before %s: %s\n", at(l.At), l.Reason)
				}
				if served.Left > 0 {
					fmt.Fprintf(w, "%d older entries are left out\n", served.Left)
				}
				ledgerTable(w, served.Entries)
			})
		},
	}
}

// parseMoment reads a time with its offset, or one of this machine's time zone.
func parseMoment(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, lifecycle.Errorf(lifecycle.Invalid, "TIME: %q: give 2026-05-03T14:03:00+02:00, or '2026-05-03 14:03' in this machine's time zone", text)
}

func newRegistry(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "registry", Short: "Look after the record"}
	var reason string
	adopt := &cobra.Command{
		Use: "adopt SERVICE", Short: "Follow a registry that was restored from a backup", Args: cobra.ExactArgs(1),
		Long: "After the registry's database was restored gateways know newer routes than it, and do not follow it: refit status says\n" +
			"so. Adopting begins a new epoch: all users go to the stable release that the restored registry names, no rollout is\n" +
			"under way, and what was lost is named in the ledger, as far as anchors in S3 tell.",
	}
	adopt.Flags().StringVar(&reason, "reason", "", "why, for the ledger (required)")
	adopt.RunE = func(cmd *cobra.Command, args []string) error {
		route, err := call(a, cmd, control.Adopt, control.AdoptInput{Service: args[0], Reason: reason})
		return a.report(route, err, func(w io.Writer) {
			fmt.Fprintf(w, "epoch %d begins: stable is %s, generation %d\n", route.Epoch, orNone(route.Stable), route.Generation)
		})
	}
	cmd.AddCommand(adopt)
	return cmd
}
