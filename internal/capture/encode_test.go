package capture

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/refitml/refit/internal/lifecycle"
)

// anyInteraction fills every field, also those that come later, with something or nothing.
func anyInteraction(t *rapid.T) lifecycle.Interaction {
	var i lifecycle.Interaction
	fillAny(t, reflect.ValueOf(&i).Elem())
	return i
}

func fillAny(t *rapid.T, v reflect.Value) {
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = time.Unix(rapid.Int64Range(0, 1<<36).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).UTC()
		return
	case *json.RawMessage:
		*at = json.RawMessage(rapid.SampledFrom([]string{"", "{}", `{"n":1,"temperature":0.7}`}).Draw(t, "raw"))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for n := range v.NumField() {
			fillAny(t, v.Field(n))
		}
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.Just(""), rapid.String(), rapid.SampledFrom([]string{"\"", "\\", "\x00", "\xff", "<é\u2028", "plain"})).Draw(t, "text"))
	case reflect.Int:
		v.SetInt(rapid.Int64Range(math.MinInt32, math.MaxInt32).Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "flag"))
	case reflect.Float64:
		v.SetFloat(rapid.OneOf(rapid.Just(0.0), rapid.Float64()).Draw(t, "share"))
	case reflect.Slice:
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			fillAny(t, v.Index(v.Len()-1))
		}
	default:
		t.Fatalf("a field of kind %s: extend the encoders and this test", v.Kind())
	}
}

// What is written is what encoding/json would write, so that every release reads it; the texts go another way.
func TestARecordIsWrittenAsItsTagsSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		i := anyInteraction(t)
		payload, err := encodeRecord(record{Interaction: &i})
		require.NoError(t, err)
		bare := i
		bare.Input, bare.Output = "", ""
		want, err := json.Marshal(record{Interaction: &bare})
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(payload[headRecord:]))

		said := record{Interaction: &i}.said()
		texts := record{Interaction: &i}.texts()
		frame := appendTextFrame(nil, texts[:]...)
		if said > 0 {
			require.Len(t, frame, said+frameHeader)
		}
		body, end, _ := nextFrame(frame)
		require.Equal(t, len(frame), end)
		var id, input, output string
		require.NoError(t, decodeText(body, &id, &input, &output))
		require.Equal(t, []string{i.ID, i.Input, i.Output}, []string{id, input, output})
	})
}

func TestWhatNoJSONHoldsIsNoRecord(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*lifecycle.Interaction){
		"not a number": func(i *lifecycle.Interaction) { i.Latency.Total = math.NaN() },
		"infinite":     func(i *lifecycle.Interaction) { i.Scores = []float64{math.Inf(1)} },
		"parameters":   func(i *lifecycle.Interaction) { i.Parameters = json.RawMessage(`{"n":`) },
		"year":         func(i *lifecycle.Interaction) { i.Started = time.Unix(1<<50, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := interaction(1)
			change(&i)
			_, err := encodeRecord(record{Interaction: &i})
			require.Error(t, err)
			s := open(t, SpoolConfig{})
			take(s, i)
			require.Equal(t, Account{Requests: 1, Dropped: 1}, s.Accounts()["docs"])
		})
	}
}
