package form

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/refitml/refit/internal/evaluation"
	"github.com/refitml/refit/internal/lifecycle"
)

// Write writes a suite of version 2 as people write it: suite.yaml, and a file of cases for each capability. What Read
// gives of it is the same suite.
func Write(s evaluation.Suite, to evaluation.Creator) error {
	if s.Version != evaluation.SuiteVersion {
		return lifecycle.Errorf(lifecycle.Invalid, "a suite of version %d has no form for people", s.Version)
	}
	if err := s.Check(); err != nil {
		return err
	}
	head := suiteForm{Suite: s.Name, Seed: whole(s.Seed)}
	for _, c := range s.Capabilities {
		written, err := capabilityOf(c)
		if err != nil {
			return err
		}
		head.Capabilities = append(head.Capabilities, written)
	}
	err := evaluation.WriteFile(to, File, func(w io.Writer) error {
		encoder := yaml.NewEncoder(w)
		encoder.SetIndent(2)
		return errors.Join(encoder.Encode(head), encoder.Close())
	})
	for _, c := range head.Capabilities {
		err = errors.Join(err, evaluation.WriteFile(to, c.Files[0], func(w io.Writer) error { return writeCases(w, s, c.Name) }))
	}
	return err
}

func capabilityOf(c evaluation.Capability) (capabilityForm, error) {
	out := capabilityForm{Name: c.Name, Ask: c.Kind, Margin: &c.Margin, Exact: c.Exact, Tags: c.Tags, Files: []string{c.Name + ".jsonl"}}
	if c.Scorer == nil {
		return out, lifecycle.Errorf(lifecycle.Invalid, "capability %s has no scorer, and the form needs one", c.Name)
	}
	out.Score.Name = c.Scorer.Name
	if len(c.Scorer.Settings) > 0 {
		if err := json.Unmarshal(c.Scorer.Settings, &out.Score.Settings); err != nil {
			return out, fmt.Errorf("settings of capability %s: %w", c.Name, err)
		}
	}
	if s := c.Sampling; s != nil {
		out.Sampling = &samplingForm{
			Samples: whole(s.Samples), Temperature: s.Temperature, TopP: s.TopP, MaxTokens: whole(s.MaxTokens), Seed: whole(s.Seed),
		}
	}
	return out, nil
}

func writeCases(w io.Writer, s evaluation.Suite, capability string) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for _, c := range s.Cases {
		if c.Capability != capability {
			continue
		}
		if err := encoder.Encode(caseOf(c)); err != nil {
			return err
		}
	}
	return nil
}

// caseOf gives the form of a case. IDs begin with the capability's name; another one cannot be written.
func caseOf(c evaluation.Case) caseForm {
	out := caseForm{
		ID: c.ID[min(len(c.ID), len(c.Capability)+1):], Weight: whole(c.Weight), Tags: c.Tags, Split: c.Split,
		Want: c.References(), Choices: c.Choices, Relevant: c.Relevant, Passages: c.Passages,
	}
	if c.Group != c.ID {
		out.Group = c.Group
	}
	if c.Human != nil {
		out.Human = &humanForm{Said: c.Human.Said, Over: c.Human.Over, Score: c.Human.Score}
	}
	if len(c.Messages) == 0 {
		out.Text = c.Text
		return out
	}
	for _, m := range c.Messages {
		out.Messages = append(out.Messages, messageForm{Role: m.Role, Content: m.Content})
	}
	out.Messages = append(out.Messages, messageForm{Role: "user", Content: c.Text})
	return out
}
