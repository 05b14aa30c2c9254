package steps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"go.temporal.io/sdk/converter"

	"github.com/refitml/refit/internal/lifecycle"
)

// MaxPayload bounds every input and output in a history, in bytes. Big things travel as references.
const MaxPayload = 64 << 10

// Decode reads a workflow's one input strictly, as a person wrote it in the Temporal UI: an unknown
// field, a wrong type or a missing service is an Invalid error that names the field and lists the
// fields there are.
func Decode[In interface{ ServiceName() string }](raw converter.RawValue) (In, error) {
	var in In
	payload := raw.Payload()
	fields := strings.Join(fieldNames(reflect.TypeOf(in)), ", ")
	if payload == nil || len(payload.GetData()) == 0 {
		return in, ToTemporal(lifecycle.Errorf(lifecycle.Invalid, `input: missing; give {"service": "NAME"}; fields: %s`, fields))
	}
	if len(payload.GetData()) > MaxPayload {
		return in, ToTemporal(lifecycle.Errorf(lifecycle.Invalid, "input: %d bytes; give at most %d", len(payload.GetData()), MaxPayload))
	}
	decoder := json.NewDecoder(bytes.NewReader(payload.GetData()))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return in, ToTemporal(lifecycle.Errorf(lifecycle.Invalid, "input: %s; fields: %s", strings.TrimPrefix(err.Error(), "json: "), fields))
	}
	if err := lifecycle.CheckServiceName(in.ServiceName()); err != nil {
		return in, ToTemporal(fmt.Errorf("%w; fields: %s", err, fields))
	}
	return in, nil
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}
