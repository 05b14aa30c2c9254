package lifecycle

import (
	"encoding/json"
	"time"
)

// Duration is a time.Duration that is written as text in JSON and YAML: "90s", "24h".
type Duration time.Duration

// D gives it as a time.Duration.
func (d Duration) D() time.Duration { return time.Duration(d) }

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the text form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the text form; a bare number is refused because its unit would be a guess.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return Errorf(Invalid, "duration %s; give text with a unit such as \"90s\" or \"24h\"", quote(string(b)))
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return Errorf(Invalid, "duration %s; give text with a unit such as \"90s\" or \"24h\"", quote(text))
	}
	*d = Duration(parsed)
	return nil
}
