package steps

import (
	"bytes"
	"encoding"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

// goldens is the folder with one stored example or more of every payload that stands in histories. A
// stored example is never changed: histories that are replayed, and runs that go on over an upgrade, hold
// payloads like it. A new field gets an example of its own, NAME.2.json and so on.
const goldens = "testdata/payloads"

// payload is one type by the name that its examples have.
type payload struct {
	name string
	kind reflect.Type
}

func of[T any](name string) payload { return payload{name, reflect.TypeFor[T]()} }

func step[In, Out any](s Step[In, Out]) []payload {
	return []payload{of[In](s.Name + ".input"), of[Out](s.Name + ".output")}
}

// payloads lists everything that workflows and activities, people and workflows say to each other.
var payloads = slices.Concat(
	step(Resolve), step(ProveStart), step(Claim), step(ReleaseClaim), step(Record), step(AwaitDataset), step(AwaitVerdict),
	step(CheckCorpus), step(ScreenData), step(FindBaseModel), step(RunJob), step(MakeRelease), step(BuildIndex),
	step(PlanEvaluation), step(AnswerSuite), step(PlanBatches), step(AnswerBatch), step(JoinAnswers), step(CompareAnswers), step(LabelAnswers), step(JudgeGate),
	step(LoadRelease), step(UnloadUnused), step(StartRollout), step(FirstStable), step(PlanRollout), step(CheckFreeze), step(AwaitThaw), step(SetShare), step(HoldStep),
	step(RecordStep), step(SetShadow), step(HoldShadow), step(RecordShadow), step(MakeStable), step(RollBack),
	step(CurateFeedback), step(OpenLadder), step(PlanArchive), step(ArchiveDay), step(ForgetDay),
	[]payload{
		of[PretrainingInput](ContinuePretraining + ".input"), of[PretrainingResult](ContinuePretraining + ".result"),
		of[IndexInput](RebuildIndex + ".input"), of[IndexResult](RebuildIndex + ".result"),
		of[EvaluationInput](EvaluateRelease + ".input"), of[lifecycle.Verdict](EvaluateRelease + ".result"),
		of[PromotionInput](PromoteRelease + ".input"), of[PromotionResult](PromoteRelease + ".result"),
		of[TuningInput](TuneFromFeedback + ".input"), of[TuningResult](TuneFromFeedback + ".result"),
		of[ArchiveInput](ArchiveInteractions + ".input"), of[ArchiveResult](ArchiveInteractions + ".result"),
		of[BuildDatasetInput](BuildDataset + ".input"), of[BuildDatasetResult](BuildDataset + ".result"),
		of[Intervention]("intervention"), of[Approval]("approval"), of[State]("state"),
	},
)

func examples(t *testing.T, name string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldens, name+"*.json"))
	require.NoError(t, err)
	return slices.DeleteFunc(files, func(file string) bool {
		number := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), name), ".json")
		_, err := strconv.Atoi(strings.TrimPrefix(number, "."))
		return number != "" && err != nil
	})
}

func TestStoredPayloadsAreStillUnderstood(t *testing.T) {
	t.Parallel()
	for _, p := range payloads {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			files := examples(t, p.name)
			require.NotEmpty(t, files, "add %s/%s.json", goldens, p.name)
			for _, file := range files {
				stored, err := os.ReadFile(file)
				require.NoError(t, err)
				require.NoError(t, understood(p.kind, stored), file)
			}
		})
	}
}

// understood: every stored field is still known and means the same, and what was added since is left out
// where it is not set.
func understood(kind reflect.Type, stored []byte) error {
	value := reflect.New(kind)
	decoder := json.NewDecoder(bytes.NewReader(stored))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value.Interface()); err != nil {
		return err
	}
	again, err := json.Marshal(value.Interface())
	if err != nil {
		return err
	}
	var before, after any
	if err := json.Unmarshal(stored, &before); err != nil {
		return err
	}
	if err := json.Unmarshal(again, &after); err != nil {
		return err
	}
	if !reflect.DeepEqual(before, after) {
		return lifecycle.Errorf(lifecycle.Conflict, "it comes back as %s", again)
	}
	return nil
}

func TestUnderstoodNoticesWhatWouldBreakHistories(t *testing.T) {
	t.Parallel()
	type now struct {
		Kept  string `json:"kept"`
		Added int    `json:"added,omitempty"`
	}
	type careless struct {
		Kept  string `json:"kept"`
		Added int    `json:"added"`
	}
	require.NoError(t, understood(reflect.TypeFor[now](), []byte(`{"kept": "a"}`)))
	require.Error(t, understood(reflect.TypeFor[now](), []byte(`{"kept": "a", "gone": 1}`)), "a field was taken away")
	require.Error(t, understood(reflect.TypeFor[now](), []byte(`{"kept": 1}`)), "a type was changed")
	require.Error(t, understood(reflect.TypeFor[careless](), []byte(`{"kept": "a"}`)), "a new field is not optional")
}

func TestEveryFieldHasAStoredExample(t *testing.T) {
	t.Parallel()
	for _, p := range payloads {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			seen := map[string]bool{}
			for _, file := range examples(t, p.name) {
				stored, err := os.ReadFile(file)
				require.NoError(t, err)
				var value any
				require.NoError(t, json.Unmarshal(stored, &value))
				storedPaths("", value, seen)
			}
			for _, path := range fieldPaths("", p.kind, nil) {
				if !seen[path] {
					t.Errorf("%s stands in no example; add %s/%s.N.json with it, and leave those that are there", path, goldens, p.name)
				}
			}
		})
	}
}

// storedPaths collects the paths of a JSON value; elements of lists and of maps count as one.
func storedPaths(at string, value any, into map[string]bool) {
	into[at] = true
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			storedPaths(at+"."+key, inner, into)
			storedPaths(at+".*", inner, into)
		}
	case []any:
		for _, inner := range v {
			storedPaths(at+"[]", inner, into)
		}
	}
}

// fieldPaths lists the paths of a type's fields as they stand in JSON.
func fieldPaths(at string, kind reflect.Type, above []reflect.Type) []string {
	switch {
	case kind.Kind() == reflect.Pointer:
		return fieldPaths(at, kind.Elem(), above)
	case slices.Contains(above, kind), speaksForItself(kind):
		return nil
	}
	above = append(above[:len(above):len(above)], kind)
	var out []string
	switch kind.Kind() {
	case reflect.Struct:
		for i := range kind.NumField() {
			field := kind.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if field.Anonymous && name == "" {
				out = append(out, fieldPaths(at, field.Type, above)...)
				continue
			}
			if field.IsExported() && name != "-" {
				out = append(out, at+"."+name)
				out = append(out, fieldPaths(at+"."+name, field.Type, above)...)
			}
		}
	case reflect.Slice:
		if kind.Elem().Kind() != reflect.Uint8 {
			out = append(out, fieldPaths(at+"[]", kind.Elem(), above)...)
		}
	case reflect.Map:
		out = append(out, fieldPaths(at+".*", kind.Elem(), above)...)
	}
	return out
}

func speaksForItself(kind reflect.Type) bool {
	return reflect.PointerTo(kind).Implements(reflect.TypeFor[json.Unmarshaler]()) ||
		reflect.PointerTo(kind).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func TestEveryStepHasStoredExamples(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, p := range payloads {
		require.False(t, known[p.name], "%s stands twice", p.name)
		known[p.name] = true
	}
	declared := declaredSteps(t)
	require.NotEmpty(t, declared)
	for _, name := range declared {
		require.True(t, known[name+".input"], "step %s is not in the list of payloads", name)
	}
	files, err := filepath.Glob(filepath.Join(goldens, "*.json"))
	require.NoError(t, err)
	for _, p := range payloads {
		mine := examples(t, p.name)
		files = slices.DeleteFunc(files, func(file string) bool { return slices.Contains(mine, file) })
	}
	require.Empty(t, files, "nobody reads these any more; a payload that stands in histories stays known")
}

// declaredSteps reads the names of all steps from the package's source: a step that nobody listed is found.
func declaredSteps(t *testing.T) (names []string) {
	t.Helper()
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok || len(literal.Elts) == 0 {
				return true
			}
			generic, ok := literal.Type.(*ast.IndexListExpr)
			if !ok {
				return true
			}
			name, ok := literal.Elts[0].(*ast.BasicLit)
			if base, isName := generic.X.(*ast.Ident); ok && isName && base.Name == "Step" {
				unquoted, err := strconv.Unquote(name.Value)
				require.NoError(t, err)
				names = append(names, unquoted)
			}
			return true
		})
	}
	return names
}
