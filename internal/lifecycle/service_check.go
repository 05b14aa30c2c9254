package lifecycle

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseService reads a declaration strictly and checks it.
func ParseService(declaration []byte) (Service, error) {
	s, err := DecodeService(declaration)
	if err != nil {
		return Service{}, err
	}
	return s, s.Check()
}

// DecodeService reads a declaration strictly: an unknown field, a wrong type or trailing text is a fault. The
// result has its defaults and is not checked yet.
func DecodeService(declaration []byte) (Service, error) {
	decoder := json.NewDecoder(bytes.NewReader(declaration))
	decoder.DisallowUnknownFields()
	var s Service
	if err := decoder.Decode(&s); err != nil {
		return Service{}, Errorf(Invalid, "service declaration: %v; the fields are in the schema that `refit schema` prints", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Service{}, Errorf(Invalid, "service declaration: text after the end; give one service a file")
	}
	return s.WithDefaults(), nil
}

// Check gives all faults of a declaration at once, each with its path and the way out. Time zones are taken as
// they are: which there are is a matter of data that differs between machines.
func (s Service) Check() error { return s.CheckZones(func(string) error { return nil }) }

// CheckZones is Check with an answer to which time zones there are.
func (s Service) CheckZones(zone func(name string) error) error {
	var faults Problems
	if !validName(s.Name) {
		faults.Add("service", quote(s.Name), "%s", nameRemedy)
	}
	s.checkServing(&faults)
	s.Shadow.check(&faults)
	s.checkCorpora(&faults)
	s.checkCapabilities(&faults)
	s.Training.Contamination.check(&faults)
	s.Rollout.check(&faults)
	s.Rollout.checkShadow(&faults, s.Capture)
	s.Changes.check(&faults, zone)
	s.checkCadences(&faults, zone)
	faults = append(faults, checkParameters("release.parameters", s.Release.Parameters)...)
	faults = append(faults, checkRules("release.post_process", s.Release.PostProcess)...)
	if !slices.Contains([]string{"full", "metadata"}, s.Capture.Content) {
		faults.Add("capture.content", quote(s.Capture.Content), "give full or metadata")
	}
	if p := s.Capture.Sample; p != nil && !(*p > 0 && *p <= 1) {
		faults.Add("capture.sample", ftoa(*p), "give a share over 0 up to 1, or content: metadata for none")
	}
	faults = append(faults, checkRedaction("capture.redact", s.Capture.Redact)...)
	if s.Capture.Retention < minRetention {
		faults.Add("capture.retention", s.Capture.Retention.String(), "give at least %s", minRetention)
	}
	if f := s.Feedback; f.MinItems < 1 || f.MaxShare <= 0 || f.MaxShare > 1 {
		faults.Add("feedback", "min_items "+itoa(f.MinItems)+", max_share "+ftoa(f.MaxShare), "give at least 1 item and a share over 0 up to 1")
	}
	return faults.Err("service " + quote(s.Name))
}

// minRetention keeps a day in the database until it is over everywhere and its last records have come.
const minRetention = Duration(72 * time.Hour)

func (s Shadow) check(faults *Problems) {
	if s == (Shadow{}) {
		return
	}
	if !s.Release.Valid() {
		faults.Add("shadow.release", quote(string(s.Release)), "give a whole release ID, or leave shadow out")
	}
	checkCopies(faults, "shadow", s)
}

func checkCopies(faults *Problems, at string, s Shadow) {
	if s.Share < 1 || s.Share > Whole {
		faults.Add(at+".share_bp", itoa(int(s.Share)), "give 1 to 10000 basis points")
	}
	if s.AtOnce < 1 || s.AtOnce > 64 || s.PerMinute < 1 {
		faults.Add(at+".at_once", itoa(s.AtOnce)+", per_minute "+itoa(s.PerMinute), "give 1 to 64 at once and at least 1 a minute")
	}
	if s.Deadline.D() < time.Second || s.Deadline.D() > 10*time.Minute {
		faults.Add(at+".deadline", s.Deadline.String(), "give 1s to 10m")
	}
}

func (s Service) checkServing(faults *Problems) {
	switch s.Serving.Engine {
	case "local":
		if len(s.Serving.Endpoints) > 0 {
			faults.Add("serving.endpoints", "given", "endpoints belong to engine static")
		}
	case "static":
		if len(s.Serving.Endpoints) == 0 {
			faults.Add("serving.endpoints", "none", "engine static needs at least one endpoint")
		}
	default:
		faults.Add("serving.engine", quote(s.Serving.Engine), "give local or static")
	}
	for i, e := range s.Serving.Endpoints {
		checkURL(faults, "serving.endpoints["+itoa(i)+"].url", e.URL)
		if e.Release != "" && !e.Release.Valid() {
			faults.Add("serving.endpoints["+itoa(i)+"].release", quote(string(e.Release)), "give a whole release ID")
		}
	}
	if s.Serving.APIKey != "" {
		checkSecret(faults, "serving.api_key", s.Serving.APIKey)
	}
	if s.Serving.Capacity < 1 {
		faults.Add("serving.capacity", itoa(s.Serving.Capacity), "give at least 1 request at once")
	}
	checkLimit(faults, "serving.time_limit", s.Serving.TimeLimit)
	checkLimit(faults, "serving.first_byte", s.Serving.FirstByte)
}

// checkLimit: no model answers within less, and a longer time bounds nothing.
func checkLimit(faults *Problems, path string, d Duration) {
	if d != 0 && (d.D() < 10*time.Millisecond || d.D() > 24*time.Hour) {
		faults.Add(path, d.String(), "give 10ms to 24h, or leave it out")
	}
}

// checkURL: an address with credentials is not repeated, because a declaration's faults are shown and logged.
func checkURL(faults *Problems, path, address string) {
	u, err := url.Parse(address)
	switch {
	case strings.Contains(address, "@"):
		faults.Add(path, "an address with credentials", "give it without; a key stands in serving.api_key as a reference")
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		faults.Add(path, quote(address), "give http:// or https:// and a host")
	}
}

// checkSecret: a declaration is stored, shown and logged, so a secret may only be pointed at. What was
// found is never repeated.
func checkSecret(faults *Problems, path, reference string) {
	name, isEnv := strings.CutPrefix(reference, "env:")
	file, isFile := strings.CutPrefix(reference, "file:")
	if (isEnv && name != "") || (isFile && filepath.IsAbs(file)) {
		return
	}
	faults.Add(path, "not a reference", "give env:NAME or file:/absolute/path; secrets never stand in a declaration")
}

func (s Service) checkCorpora(faults *Problems) {
	for _, name := range sortedKeys(s.Corpora) {
		c, at := s.Corpora[name], "corpora."+name
		if !validName(name) {
			faults.Add(at, quote(name), "%s", nameRemedy)
		}
		if len(c.Sources) == 0 {
			faults.Add(at+".sources", "none", "give at least one source")
		}
		for i, source := range c.Sources {
			source.check(faults, at+".sources["+itoa(i)+"]")
		}
		if c.HeldOut < 0 || c.HeldOut > 0.5 {
			faults.Add(at+".held_out", ftoa(c.HeldOut), "give a fraction up to 0.5")
		}
		if c.MaxDropped < 0 || c.MaxDropped > 1 {
			faults.Add(at+".max_dropped", ftoa(c.MaxDropped), "give a fraction from 0 to 1")
		}
	}
	for i, name := range s.Retrieval.Corpora {
		if _, ok := s.Corpora[name]; !ok {
			faults.Add("retrieval.corpora["+itoa(i)+"]", quote(name), "give one of %v", sortedKeys(s.Corpora))
		}
	}
	if s.Retrieval.Chunk < 100 || s.Retrieval.Overlap < 0 || s.Retrieval.Overlap >= s.Retrieval.Chunk {
		faults.Add("retrieval.chunk", itoa(s.Retrieval.Chunk)+" with overlap "+itoa(s.Retrieval.Overlap), "give at least 100 characters and an overlap under it")
	}
}

func (s Source) check(faults *Problems, at string) {
	switch s.Kind {
	case "go-std":
	case "go-modules":
		if len(s.Modules) == 0 {
			faults.Add(at+".modules", "none", "name at least one module path")
		}
	case "folder":
		if !filepath.IsAbs(s.Path) || filepath.Clean(s.Path) != s.Path {
			faults.Add(at+".path", quote(s.Path), "give a clean absolute path below one of the worker's data_roots")
		}
	default:
		faults.Add(at+".kind", quote(s.Kind), "give go-std, go-modules or folder")
	}
}

func (s SuiteSource) check(faults *Problems) {
	switch {
	case !s.Given():
	case s.Folder != "" && s.S3 != "":
		faults.Add("evaluation.suite", "folder and s3", "give one of them")
	case s.Folder != "" && (!filepath.IsAbs(s.Folder) || filepath.Clean(s.Folder) != s.Folder):
		faults.Add("evaluation.suite.folder", quote(s.Folder), "give a clean absolute path below one of the worker's data_roots")
	case s.S3 != "" && !cleanRelative(s.S3):
		faults.Add("evaluation.suite.s3", quote(s.S3), "give a clean prefix without a slash at either end, such as suites/support")
	}
}

func (s Service) checkCapabilities(faults *Problems) {
	s.Evaluation.Suite.check(faults)
	if n := s.Evaluation.AtOnce; n < 1 || n > 64 {
		faults.Add("evaluation.batches_at_once", itoa(n), "give 1 to 64")
	}
	if a := s.Evaluation.Agreement; a.Given() {
		if !(a.Minimum > 0 && a.Minimum < 1) {
			faults.Add("evaluation.agreement.minimum", ftoa(a.Minimum), "give more than 0, less than 1")
		}
		if a.Labels < 10 || a.Labels > 100_000 {
			faults.Add("evaluation.agreement.labels", itoa(a.Labels), "give 10 to 100000")
		}
	}
	seen := map[string]bool{}
	for i, c := range s.Evaluation.Capabilities {
		at := "evaluation.capabilities[" + itoa(i) + "]"
		if !validName(c.Name) || seen[c.Name] {
			faults.Add(at+".name", quote(c.Name), "%s; each name once", nameRemedy)
		}
		seen[c.Name] = true
		if !slices.Contains([]string{"bits-per-byte", "next-token", "cloze", "retrieval"}, c.Kind) {
			faults.Add(at+".kind", quote(c.Kind), "give bits-per-byte, next-token, cloze or retrieval")
		}
		if _, ok := s.Corpora[c.Corpus]; !ok {
			faults.Add(at+".corpus", quote(c.Corpus), "give one of %v", sortedKeys(s.Corpora))
		}
		if c.Items < 1 || c.Items > 1_000_000 {
			faults.Add(at+".items", itoa(c.Items), "give 1 to 1000000")
		}
		if c.Margin <= 0 {
			faults.Add(at+".margin", ftoa(c.Margin), "give a drop over 0 that is still accepted")
		}
	}
}

func (p RolloutPolicy) check(faults *Problems) {
	var before BasisPoints
	for i, step := range p.Steps {
		at := "rollout.steps[" + itoa(i) + "]"
		if step.Share < 1 || step.Share >= Whole {
			faults.Add(at+".share_bp", itoa(int(step.Share))+" basis points", "give 1 to 9999 (500 is 5%%); no verdict is possible at 10000")
		} else if step.Share <= before {
			faults.Add(at+".share_bp", itoa(int(step.Share))+" basis points", "steps grow; give more than %d", before)
		}
		before = step.Share
		if step.MinConversations < 1 {
			faults.Add(at+".min_conversations", itoa(int(step.MinConversations)), "give at least 1; no step passes on the clock alone")
		}
		if step.MaxTime <= 0 {
			faults.Add(at+".max_time", step.MaxTime.String(), "give more than 0")
		}
		if step.Margin <= 1 {
			faults.Add(at+".margin", ftoa(step.Margin), "give a risk ratio over 1")
		}
	}
	known := []string{"errors", "guardrails", "refusals", "thumbs-down", "abandoned", "slow"}
	for i, m := range p.Metrics {
		at := "rollout.metrics[" + itoa(i) + "]"
		if !slices.Contains(known, m.Name) {
			faults.Add(at+".name", quote(m.Name), "give one of %v", known)
		}
		if m.Weight <= 0 || m.Tolerated < 1 || m.Floor < 0 || m.Floor >= 1 {
			faults.Add(at, "weight "+ftoa(m.Weight)+", tolerated "+ftoa(m.Tolerated)+", floor "+ftoa(m.Floor), "give a weight over 0, tolerated from 1, floor from 0 to under 1")
		}
	}
	if e := p.Exposure; e.Band < 1 || e.Threshold < 1 || e.Cap < e.Threshold {
		faults.Add("rollout.exposure", "band "+ftoa(e.Band)+", threshold "+ftoa(e.Threshold)+", cap "+ftoa(e.Cap), "give band and threshold from 1 and a cap not under the threshold")
	}
	if e := p.Exposure; e.Tokens < 0 || e.Tokens > 1_000_000_000 || e.Reserve < 0 || e.Reserve > e.Tokens {
		faults.Add("rollout.exposure", "tokens "+strconv.FormatInt(e.Tokens, 10)+", reserve "+strconv.FormatInt(e.Reserve, 10),
			"give tokens from 0 to 1000000000 and a reserve not over them")
	}
	p.Levels.check(faults)
	if !slices.Contains([]string{"roll-back", "ask"}, p.AtBound) {
		faults.Add("rollout.at_bound", quote(p.AtBound), "give roll-back or ask")
	}
}

func (l Levels) check(faults *Problems) {
	for _, level := range []struct {
		name  string
		value float64
	}{{"share", l.Share}, {"harm", l.Harm}, {"promote", l.Promote}} {
		if !(level.value >= 1e-12 && level.value <= 0.5) {
			faults.Add("rollout.levels."+level.name, ftoa(level.value), "give a chance of error from 1e-12 to 0.5")
		}
	}
}

func (s Service) checkCadences(faults *Problems, zone func(string) error) {
	seen := map[Loop]bool{}
	for i, c := range s.Cadences {
		at := "cadences[" + itoa(i) + "]"
		if !slices.Contains([]Loop{PretrainingLoop, IndexLoop, EvaluationLoop, TuningLoop, ArchiveLoop}, c.Loop) || seen[c.Loop] {
			faults.Add(at+".loop", quote(string(c.Loop)), "give pretraining, index, evaluation, tuning or archive, each once")
		}
		seen[c.Loop] = true
		if len(strings.Fields(c.Cron)) != 5 {
			faults.Add(at+".cron", quote(c.Cron), "give five fields: minute hour day month weekday")
		}
		if zone(c.TimeZone) != nil {
			faults.Add(at+".time_zone", quote(c.TimeZone), "%s", zoneRemedy)
		}
		if !slices.Contains([]string{"skip", "buffer-one"}, c.Overlap) {
			faults.Add(at+".overlap", quote(c.Overlap), "give skip or buffer-one")
		}
		if c.Jitter < 0 {
			faults.Add(at+".jitter", c.Jitter.String(), "give 0 or more")
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
