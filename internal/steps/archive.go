package steps

import "github.com/refitml/refit/internal/lifecycle"

// ArchiveInput starts ArchiveInteractions.
type ArchiveInput struct {
	Service string `json:"service"`
	By      string `json:"by,omitempty"`
}

// ServiceName says which service is meant.
func (in ArchiveInput) ServiceName() string { return in.Service }

// ArchiveResult is what a run of ArchiveInteractions did. Days are dates in UTC, as 2026-01-31.
type ArchiveResult struct {
	Archived  []ArchivedDay `json:"archived"`
	Forgotten []string      `json:"forgotten"`
	Kept      []string      `json:"kept,omitempty"` // past their retention, but rows came after their archive
	More      bool          `json:"more,omitempty"` // days are left for the next run
}

// ArchivedDay is one day in the archive.
type ArchivedDay struct {
	Day          string           `json:"day"`
	Artifact     lifecycle.Digest `json:"artifact"`
	Interactions int64            `json:"interactions"`
	Feedback     int64            `json:"feedback"`
	Bytes        int64            `json:"bytes"`
}

// PlanArchiveInput asks which days are to be archived and which to be forgotten.
type PlanArchiveInput struct {
	Service   string             `json:"service"`
	Retention lifecycle.Duration `json:"retention"`
}

// ArchivePlan is the answer, oldest days first. A day that is to be archived and past its retention is in both.
type ArchivePlan struct {
	Archive []string `json:"archive"`
	Forget  []string `json:"forget"`
	More    bool     `json:"more,omitempty"`
}

// ArchiveDayInput names a day of a service.
type ArchiveDayInput struct {
	Service string          `json:"service"`
	Day     string          `json:"day"`
	By      lifecycle.Actor `json:"by"`
}

// Steps of the archive loop.
var (
	PlanArchive = Step[PlanArchiveInput, ArchivePlan]{"PlanArchive", transfer}
	ArchiveDay  = Step[ArchiveDayInput, ArchivedDay]{"ArchiveDay", transfer}
	ForgetDay   = Step[ArchiveDayInput, None]{"ForgetDay", transfer}
)
