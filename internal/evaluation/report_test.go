package evaluation

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestTheReportIsReadable(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(17, 18)),
		trial{kind: Cloze, items: 100, perGroup: 1, baseline: 0.5, flips: 0.3, margin: 0.05},
		trial{kind: BitsPerByte, items: 400, perGroup: 1, baseline: -2, flips: 0.1, change: -0.02, margin: 0.06})
	g.Attempt = 5
	v, report := Judge(g)
	text := report.Markdown()
	require.Equal(t, lifecycle.UnderpoweredOutcome, v.Outcome)
	require.Contains(t, text, "bits-per-byte (less is better)")
	require.Contains(t, text, "This is attempt 5 against this baseline and suite.")
	require.Contains(t, text, "of 5 such tries one passes with a chance of about 23%")
	require.InDelta(t, 0.226, report.AttemptsError, 1e-3)
	require.Contains(t, text, "pass, with a proven drop inside the margin |")
	require.Contains(t, text, "- c1: pass: it dropped by", "what did not decide is told, too")
	require.Regexp(t, `\| c1 \| bits-per-byte \(less is better\) \| 400 \| 400 \| [12]\.`, text)
	require.Regexp(t, `(?m)^c0  \.+\[=*!=*o?=*\|=*o?=*\]\.+  -0\.\d+ to \+0\.\d+$`, text)
	require.Contains(t, text, "passes the whole gate with probability 0.")

	g.Attempt = 1
	_, report = Judge(g)
	require.Contains(t, report.Markdown(), "This is attempt 1 against this baseline and suite. A candidate that is worse by a whole margin passes in 5% of tries; trying five times makes it about 23%.")
}

func TestIntervalsAreDrawnWhereTheyLie(t *testing.T) {
	t.Parallel()
	c := lifecycle.CapabilityVerdict{Margin: 0.1, Low: -0.05, High: 0.1, Baseline: 0.5, Candidate: 0.525}
	require.Equal(t, "...!............[=============|======o===================]...  -0.11 to +0.11", bar(c))
	c.Low = -0.3 // the margin lies inside
	require.Equal(t, "...[=================!========|=o======].....................  -0.33 to +0.33", bar(c))
}

// What a model says is untrusted: it stays in its cell, is no markup, and is not endless.
func TestAnswersStayInTheirCells(t *testing.T) {
	t.Parallel()
	g := draw(rand.New(rand.NewPCG(19, 20)), trial{kind: Cloze, items: 100, perGroup: 1, baseline: 0.5, flips: 0.3, margin: 0.05})
	evil := "<img src=x>|x|\n# y\n`z` ![p](https://evil.test/?q) \u202e\\| www.evil.test \x00 end " + strings.Repeat("long ", 1000)
	for i := range g.CandidateAnswer.List {
		g.CandidateAnswer.List[i].Said = evil
		g.Suite.Cases[i].Text = evil
	}
	_, report := Judge(g)
	text := report.Markdown()
	for _, bad := range []string{"<img", "![p", "](", "https://", "www.", "\u202e", "\x00", "\n# y"} {
		require.NotContains(t, text, bad)
	}
	rows := 0
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "| c0/") {
			rows++
			require.Equal(t, 6, strings.Count(line, "|"), line)
			require.NotContains(t, line, "`")
		}
	}
	require.Equal(t, 10, rows)
	require.Less(t, len(text), 64<<10)
	raw, err := report.JSON()
	require.NoError(t, err)
	require.Less(t, len(raw), 64<<10)
	require.True(t, json.Valid(raw))
}

func TestFlakyCasesAreNamed(t *testing.T) {
	t.Parallel()
	tr := trial{kind: Cloze, items: 200, perGroup: 1, samples: 4, baseline: 0.6, flips: 0.02, flaky: 0.2, margin: 0.1}
	g := draw(rand.New(rand.NewPCG(21, 22)), tr)
	_, report := Judge(g)
	detail := report.Capabilities[0]
	require.Equal(t, 4, detail.Samples)
	require.InDelta(t, 33, detail.FlakyCandidate, 12)
	require.InDelta(t, 33, detail.FlakyBaseline, 12)
	require.Len(t, detail.Flaky, shown, "the list is bounded")
	require.InDelta(t, 0.5, detail.Flaky[0].Mean, 1e-9, "what changes most comes first")
	require.Contains(t, report.Markdown(), "## Flaky in c0\n\nAsked 4 times, the candidate answers ")

	tr.flaky = 0
	g = draw(rand.New(rand.NewPCG(21, 22)), tr)
	_, report = Judge(g)
	require.Zero(t, report.Capabilities[0].FlakyCandidate)
	require.NotContains(t, report.Markdown(), "Flaky")
	g.Baseline, g.BaselineAnswer = "", Answers{}
	g.CandidateAnswer.List[0].Score = 1 - g.CandidateAnswer.List[1].Score
	_, report = Judge(g)
	require.Equal(t, 1, report.Capabilities[0].FlakyCandidate, "of a first release, too")
	require.Contains(t, report.Markdown(), "Flaky")
}

// The more often flaky cases are asked, the less of their changing is left: it is no evidence, and no noise.
func TestAskingAgainTakesFlakinessOut(t *testing.T) {
	t.Parallel()
	tr := trial{kind: Cloze, items: 300, perGroup: 1, samples: 1, baseline: 0.6, flips: 0.01, flaky: 0.3, margin: 0.05}
	width := func(samples int) float64 {
		tr.samples = samples
		v, _ := Judge(draw(rand.New(rand.NewPCG(23, 24)), tr))
		return v.Capabilities[0].High - v.Capabilities[0].Low
	}
	once, often := width(1), width(10)
	require.Less(t, often, 0.6*once)
	require.Greater(t, often, 0.1*once, "asking again does not make up for few cases")
}

// What junit-10.xsd of Jenkins' xUnit plugin allows, of what is used; GitLab reads the same elements.
var junitAllows = map[string]struct {
	attributes, required, children []string
}{
	"testsuites": {[]string{"name", "time", "tests", "failures", "errors"}, nil, []string{"testsuite"}},
	"testsuite": {[]string{"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
		[]string{"name", "tests", "failures", "errors"}, []string{"testsuite", "properties", "testcase", "system-out", "system-err"}},
	"properties": {nil, nil, []string{"property"}},
	"property":   {[]string{"name", "value"}, []string{"name", "value"}, nil},
	"testcase":   {[]string{"name", "time", "classname", "group"}, []string{"name"}, []string{"skipped", "error", "failure", "system-out", "system-err"}},
	"failure":    {[]string{"type", "message"}, nil, nil},
	"error":      {[]string{"type", "message"}, nil, nil},
	"system-out": {},
}

func TestJUnitIsWhatCIReads(t *testing.T) {
	t.Parallel()
	of := func(o lifecycle.Outcome, reason string) lifecycle.CapabilityVerdict {
		return lifecycle.CapabilityVerdict{Capability: "c <" + string(o) + ">", Metric: "accuracy", Outcome: o, Reason: reason}
	}
	for name, tc := range map[string]struct {
		verdict                 lifecycle.Verdict
		tests, failures, errors string
	}{
		"pass": {lifecycle.Verdict{Outcome: lifecycle.PassOutcome, DecidedAt: time.Unix(1, 0), Capabilities: []lifecycle.CapabilityVerdict{of("pass", "fine")}}, "1", "0", "0"},
		"each": {lifecycle.Verdict{Outcome: lifecycle.ErrorOutcome, Capabilities: []lifecycle.CapabilityVerdict{
			of("pass", "a"), of("regress", "]]> \x00 & \"worse\""), of("underpowered", "?"), of("error", "no judge"), of("", "what is this")}}, "5", "2", "2"},
		"error without a capability":      {lifecycle.Verdict{Outcome: lifecycle.ErrorOutcome, Reasons: []string{"case a has no answer"}}, "1", "0", "1"},
		"no pass although its parts pass": {lifecycle.Verdict{Outcome: lifecycle.RegressOutcome, Capabilities: []lifecycle.CapabilityVerdict{of("pass", "")}}, "2", "1", "0"},
		"nothing at all":                  {lifecycle.Verdict{}, "1", "0", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, err := JUnit(tc.verdict)
			require.NoError(t, err)
			decoder := xml.NewDecoder(strings.NewReader(string(raw)))
			path := []string{}
			for {
				token, err := decoder.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				switch e := token.(type) {
				case xml.StartElement:
					allowed, known := junitAllows[e.Name.Local]
					require.True(t, known, e.Name.Local)
					if len(path) == 0 {
						require.Equal(t, "testsuites", e.Name.Local)
					} else {
						require.Contains(t, junitAllows[path[len(path)-1]].children, e.Name.Local)
					}
					given := map[string]string{}
					for _, a := range e.Attr {
						given[a.Name.Local] = a.Value
						require.Contains(t, allowed.attributes, a.Name.Local)
					}
					for _, needed := range allowed.required {
						require.Contains(t, given, needed)
					}
					if e.Name.Local == "testsuite" {
						require.Equal(t, []string{tc.tests, tc.failures, tc.errors}, []string{given["tests"], given["failures"], given["errors"]})
					}
					path = append(path, e.Name.Local)
				case xml.EndElement:
					path = path[:len(path)-1]
				}
			}
			require.Equal(t, tc.failures, count(raw, "<failure "))
			require.Equal(t, tc.errors, count(raw, "<error "))
			green := tc.failures == "0" && tc.errors == "0"
			require.Equal(t, tc.verdict.Outcome == lifecycle.PassOutcome, green, "green is pass, and nothing else is")
		})
	}
}

func count(raw []byte, what string) string {
	n := strings.Count(string(raw), what)
	return string(rune('0' + n))
}
