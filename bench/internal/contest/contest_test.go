package contest

import (
	"encoding/json"
	"testing"
	"time"
)

func TestRatioComparesWithinRounds(t *testing.T) {
	t.Parallel()
	samples := map[string][]Sample{
		"a": {{PerCPUSecond: 10}, {PerCPUSecond: 100}, {PerCPUSecond: 30}},
		"b": {{PerCPUSecond: 20}, {PerCPUSecond: 200}, {PerCPUSecond: 30}},
	}
	median, low, high := Ratio(samples, "a", "b")
	if median != 0.5 || low != 0.5 || high != 1 {
		t.Fatalf("median %v, %v to %v", median, low, high)
	}
	if median, _, _ := Ratio(samples, "a", "nobody"); median != 0 {
		t.Fatalf("a ratio to nobody: %v", median)
	}
}

func TestBodiesAreRequestsOfTheirSize(t *testing.T) {
	t.Parallel()
	for _, s := range Scenarios() {
		bodies := s.Bodies("docs")
		seen := map[string]bool{}
		for _, body := range bodies {
			var said struct {
				Model    string `json:"model"`
				Messages []struct{ Content string }
				Stream   bool `json:"stream"`
			}
			if err := json.Unmarshal(body, &said); err != nil {
				t.Fatal(err)
			}
			if said.Model != "docs" || said.Stream != (s.Chunks > 0) {
				t.Fatalf("%+v", said)
			}
			seen[said.Messages[0].Content] = true
		}
		if len(seen) != variety {
			t.Fatalf("%s: %d conversations", s.Name, len(seen))
		}
		if n := len(bodies[0]); n < s.Prompt*8/10 || n > s.Prompt+400 {
			t.Fatalf("%s: %d bytes", s.Name, n)
		}
	}
	if Median([]float64{3, 1, 2}) != 2 || Median([]float64{4, 1, 2, 3}) != 2.5 || Median(nil) != 0 {
		t.Fatal("median")
	}
}

func TestScenariosHaveDistinctNames(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if names[s.Name] || s.Chunks > 0 && s.Pace < time.Millisecond {
			t.Fatalf("%+v", s)
		}
		names[s.Name] = true
	}
}
