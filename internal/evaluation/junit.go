package evaluation

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// JUnit's form, as Jenkins (junit-10.xsd of its xUnit plugin) and GitLab read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Timestamp  string          `xml:"timestamp,attr,omitempty"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Name      string        `xml:"name,attr"`
		ClassName string        `xml:"classname,attr"`
		Failure   *junitProblem `xml:"failure"`
		Error     *junitProblem `xml:"error"`
		Out       string        `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit gives a verdict as a test report for other people's CI: a test a capability, which fails where it regressed or
// could not tell, and is an error where it could not be judged. A verdict that is no pass is never a green report.
func JUnit(v lifecycle.Verdict) ([]byte, error) {
	suite := junitSuite{Name: "refit gate of " + v.Service, Properties: []junitProperty{
		{"candidate", string(v.Candidate)}, {"baseline", string(v.Baseline)}, {"suite", string(v.Suite)}, {"report", string(v.Report)},
		{"outcome", string(v.Outcome)}, {"attempt", fmt.Sprint(v.Attempt)},
	}}
	if !v.DecidedAt.IsZero() {
		suite.Timestamp = v.DecidedAt.UTC().Format("2006-01-02T15:04:05")
	}
	class := "refit.gate." + v.Service
	for _, c := range v.Capabilities {
		one := junitCase{Name: c.Capability, ClassName: class, Out: figures(c)}
		one.judge(c.Outcome, c.Reason)
		suite.add(one)
	}
	if len(v.Capabilities) == 0 || v.Outcome != lifecycle.PassOutcome && suite.Failures+suite.Errors == 0 {
		one := junitCase{Name: "the whole gate", ClassName: class}
		one.judge(v.Outcome, strings.Join(v.Reasons, "; "))
		suite.add(one)
	}
	all := junitSuites{Name: "refit", Tests: suite.Tests, Failures: suite.Failures, Errors: suite.Errors, Suites: []junitSuite{suite}}
	raw, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the verdict as JUnit XML: %w", err)
	}
	return append([]byte(xml.Header), append(raw, '\n')...), nil
}

func (s *junitSuite) add(c junitCase) {
	s.Cases = append(s.Cases, c)
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	if c.Error != nil {
		s.Errors++
	}
}

func (c *junitCase) judge(outcome lifecycle.Outcome, reason string) {
	problem := &junitProblem{Type: string(outcome), Message: reason, Text: reason}
	switch outcome {
	case lifecycle.PassOutcome:
	case lifecycle.RegressOutcome, lifecycle.UnderpoweredOutcome:
		c.Failure = problem
	default: // unknown is never pass
		c.Error = problem
	}
}

func figures(c lifecycle.CapabilityVerdict) string {
	return fmt.Sprintf("%s: baseline %.4f, candidate %.4f, change %+.4f (limits %s), margin %.4f, %d cases in %d groups: %s",
		c.Metric, c.Baseline, c.Candidate, c.Candidate-c.Baseline, limitsOf(c, 1), c.Margin, c.Items, c.Clusters, c.Reason)
}
