package compute

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestLastProgress(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tail      string
		fromStart bool
		want      int64 // step; -1 for none
	}{
		"nothing":                      {"", true, -1},
		"one report":                   {`{"step":4,"total":9}` + "\n", true, 4},
		"a torn last line":             {`{"step":4,"total":9}` + "\n" + `{"step":5,"total":9}`, true, 4},
		"a torn first line":            {`"step":1,"total":1}` + "\n" + `{"step":5,"total":9}` + "\n", false, 5},
		"only the end of a long line":  {`{"step":1,"total":1}`, false, -1},
		"a first line that looks good": {`{"step":1,"total":1}` + "\n", false, -1},
		"noise after it":               {`{"step":4,"total":9}` + "\nTraceback\n\n{}\n", true, 4},
		"no total":                     {`{"step":4}` + "\n", true, -1},
		"a negative step":              {`{"step":-4,"total":9}` + "\n", true, -1},
		"a field from the future":      {`{"step":4,"total":9,"gpu":1}` + "\n", true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := lastProgress([]byte(tc.tail), tc.fromStart)
			if tc.want < 0 {
				require.Nil(t, p)
				return
			}
			require.NotNil(t, p)
			require.Equal(t, tc.want, p.Step)
		})
	}
}

func FuzzLastProgress(f *testing.F) {
	f.Add([]byte(`{"step":4,"total":9}`+"\n"), true)
	f.Add([]byte("x\n{\"step\":1e3,\"total\":-0}\n\xff\n"), false)
	f.Fuzz(func(t *testing.T, tail []byte, fromStart bool) {
		p := lastProgress(tail, fromStart)
		if p != nil && (p.Step < 0 || p.Total < 0 || !strings.Contains(string(tail), "\n")) {
			t.Fatalf("accepted %+v from %q", p, tail)
		}
		if p == nil {
			return
		}
		// A line that is still being written changes nothing.
		if again := lastProgress(append(tail[:strings.LastIndexByte(string(tail), '\n')+1:len(tail)], `{"step":1,"tot`...), fromStart); again == nil || *again != *p {
			t.Fatalf("a torn line changed %+v to %+v", p, again)
		}
	})
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code    int
		cause   stopCause
		missing []string
		want    lifecycle.JobPhase
	}{
		"done":                               {0, notStopped, nil, lifecycle.JobSucceeded},
		"done although it was canceled":      {0, canceled, nil, lifecycle.JobSucceeded},
		"canceled before outputs were there": {0, canceled, []string{"m"}, lifecycle.JobCanceled},
		"done without its output":            {0, notStopped, []string{"m"}, lifecycle.JobFailed},
		"canceled with a checkpoint":         {75, canceled, nil, lifecycle.JobCanceled},
		"again":                              {75, notStopped, nil, lifecycle.JobRetry},
		"overdue with a checkpoint":          {75, overdue, nil, lifecycle.JobRetry},
		"overdue":                            {137, overdue, nil, lifecycle.JobFailed},
		"the machine goes down":              {143, shutdown, nil, lifecycle.JobRetry},
		"a wrong spec":                       {64, notStopped, nil, lifecycle.JobRejected},
		"a crash":                            {139, notStopped, nil, lifecycle.JobFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			phase, reason := judge(tc.code, tc.cause, tc.missing)
			require.Equal(t, tc.want, phase)
			require.Equal(t, phase == lifecycle.JobSucceeded, reason == "", "a reason for all that is not success")
		})
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 123 0 0"))
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = parseStat(raw) }) // must not panic
}

func TestParseStatOfAProgramWithAnOddName(t *testing.T) {
	t.Parallel()
	stat, err := parseStat([]byte("7 (a) b) S 1 7 9 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 123 0 0"))
	require.NoError(t, err)
	require.Equal(t, processStat{state: 'S', session: 9, start: 123}, stat)
}
