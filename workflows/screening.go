package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/steps"
)

// screenedData is the change since which training data are held against the suites. Runs that began before it train
// on what they have.
const screenedData = "screened-data"

// screen holds a job's datasets against every suite of the service and gives what the job may be trained on, with the
// labels that name the report. Corpora that suites ask and that have no dataset yet get one first: before that nobody
// knows what their cases will be.
func (l *loop) screen(ctx workflow.Context, job string, inputs map[string]lifecycle.ArtifactRef, learned ...string) (map[string]lifecycle.ArtifactRef, *steps.Screened, error) {
	if workflow.GetVersion(ctx, screenedData, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return inputs, nil, nil
	}
	in := steps.ScreenInput{
		Service: l.service.Name, Job: job, Policy: l.service.Training.Contamination,
		Datasets: map[string]lifecycle.Digest{}, Learned: learned, By: l.by,
	}
	for _, name := range workflow.DeterministicKeys(inputs) {
		if inputs[name].Kind == lifecycle.DatasetArtifact {
			in.Datasets[name] = inputs[name].Digest
		}
	}
	out, err := l.screenOnce(ctx, in)
	if err == nil && len(out.Missing) > 0 {
		for _, corpus := range out.Missing {
			if _, err := l.dataset(ctx, corpus); err != nil {
				return nil, nil, err
			}
		}
		if out, err = l.screenOnce(ctx, in); err == nil && len(out.Missing) > 0 {
			err = steps.ToTemporal(lifecycle.Errorf(lifecycle.Internal, "corpora %v have no dataset, although one was built of each", out.Missing))
		}
	}
	if err != nil {
		return nil, nil, err
	}
	clean := map[string]lifecycle.ArtifactRef{}
	for _, name := range workflow.DeterministicKeys(inputs) {
		ref := inputs[name]
		if ref.Kind == lifecycle.DatasetArtifact {
			ref.Digest = out.Datasets[name]
		}
		clean[name] = ref
	}
	s := out.Screened
	l.note(ctx, "screened", fmt.Sprintf("%d of %d documents hold one of %d cases, %d are taken out; report %s", s.Hits, s.Documents, s.Cases, s.Removed, s.Report.Short()))
	return clean, &s, nil
}

func (l *loop) screenOnce(ctx workflow.Context, in steps.ScreenInput) (steps.ScreenResult, error) {
	l.note(ctx, "screening", "the data of job "+in.Job+" against the suites")
	return steps.ScreenData.Run(ctx, in)
}
