package activities

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// Archive holds the steps that bring interactions to the archive and out of the database.
type Archive struct {
	Shelf
	Captured *capture.Store
	Now      func() time.Time // default time.Now
}

// maxDays bounds the days of one run, and so its history.
const maxDays = 100

// Plan says which days are over and not archived, or not all of them, and which are past their retention. It
// changes nothing.
func (a Archive) Plan(ctx context.Context, in steps.PlanArchiveInput) (steps.ArchivePlan, error) {
	ctx, done := long(ctx, nil)
	defer done()
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	today := capture.Day(now())
	days, err := a.Captured.Days(ctx, in.Service, today)
	if err != nil {
		return steps.ArchivePlan{}, err
	}
	plan := steps.ArchivePlan{Archive: []string{}, Forget: []string{}}
	for _, d := range days {
		name := d.Day.Format(time.DateOnly)
		past := d.Day.AddDate(0, 0, 1).Add(time.Duration(in.Retention)).Before(now())
		if d.Kept && !past {
			continue
		}
		if len(plan.Archive) >= maxDays || len(plan.Forget) >= maxDays {
			plan.More = true
			break
		}
		if !d.Kept {
			plan.Archive = append(plan.Archive, name)
		}
		if past {
			plan.Forget = append(plan.Forget, name)
		}
	}
	return plan, nil
}

// Day writes one day to the archive. The same rows are the same artifact, so a try after a lost answer changes
// nothing; rows that came since make another one.
func (a Archive) Day(ctx context.Context, in steps.ArchiveDayInput) (steps.ArchivedDay, error) {
	ctx, done := long(ctx, nil)
	defer done()
	day, err := dayOf(in.Day)
	if err != nil {
		return steps.ArchivedDay{}, err
	}
	dir, cleanUp, err := a.scratch("archive")
	if err != nil {
		return steps.ArchivedDay{}, err
	}
	defer cleanUp()
	kept, err := a.write(ctx, in.Service, day, dir)
	if err != nil {
		return steps.ArchivedDay{}, err
	}
	ref, manifest, err := a.Store.Put(ctx, lifecycle.ArchiveArtifact, string(dir))
	if err != nil {
		return steps.ArchivedDay{}, lifecycle.Wrap(err, "store the archive of %s, %s", in.Service, in.Day)
	}
	err = a.Registry.AddArtifact(ctx, lifecycle.Artifact{
		ArtifactRef: ref, Service: in.Service, Size: manifest.Size(), Files: len(manifest.Files), MadeBy: in.By,
		Labels: map[string]string{
			"day": in.Day, "interactions": strconv.FormatInt(kept.Interactions, 10), "feedback": strconv.FormatInt(kept.Feedback, 10),
		},
	})
	if err != nil {
		return steps.ArchivedDay{}, err
	}
	kept.Artifact = ref.Digest
	return steps.ArchivedDay{
		Day: in.Day, Artifact: ref.Digest, Interactions: kept.Interactions, Feedback: kept.Feedback, Bytes: manifest.Size(),
	}, a.Captured.AddArchivedDay(ctx, kept)
}

func (a Archive) write(ctx context.Context, service string, day time.Time, to tree) (kept capture.ArchivedDay, err error) {
	interactions, err := to.Create(capture.InteractionsFile)
	if err != nil {
		return kept, fmt.Errorf("write an archive: %w", err)
	}
	defer func() { err = errors.Join(err, interactions.Close()) }()
	feedback, err := to.Create(capture.FeedbackFile)
	if err != nil {
		return kept, fmt.Errorf("write an archive: %w", err)
	}
	defer func() { err = errors.Join(err, feedback.Close()) }()
	return a.Captured.ArchiveDay(ctx, service, day, interactions, feedback)
}

// ForgetDay removes an archived day from the database, and says so in the ledger. A day that is not archived, or
// not all of it, is a Conflict.
func (a Archive) ForgetDay(ctx context.Context, in steps.ArchiveDayInput) (steps.None, error) {
	ctx, done := long(ctx, nil)
	defer done()
	day, err := dayOf(in.Day)
	if err != nil {
		return steps.None{}, err
	}
	if err := a.Captured.ForgetDay(ctx, in.Service, day); err != nil {
		return steps.None{}, err
	}
	archive, err := a.Registry.LatestArtifact(ctx, in.Service, lifecycle.ArchiveArtifact, map[string]string{"day": in.Day})
	if err != nil {
		return steps.None{}, err
	}
	return steps.None{}, a.Registry.AppendLedger(ctx, lifecycle.LedgerEntry{
		Service: in.Service, Kind: lifecycle.DayForgotten, Subject: in.Day, Actor: in.By,
		Reason: "past its retention, and archived as " + archive.Digest.Short(),
	}, "forget/"+in.Day+"/"+string(archive.Digest))
}

func dayOf(text string) (time.Time, error) {
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return day, lifecycle.Errorf(lifecycle.Invalid, "day: %q; give a date such as 2026-01-31", text)
	}
	return day, nil
}
