package configs

import (
	"encoding/json"
	"io"
	"os"
	"reflect"
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"

	"github.com/refitml/refit/internal/lifecycle"
)

// maxDeclaration bounds a declaration's file, in bytes; a service travels in one Temporal payload.
const maxDeclaration = 48 << 10

// ReadService reads one service declaration in YAML, strictly: all faults at once, each with its path
// and the way out.
func ReadService(r io.Reader) (lifecycle.Service, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxDeclaration+1))
	if err != nil {
		return lifecycle.Service{}, lifecycle.Errorf(lifecycle.Invalid, "read the declaration: %w", err)
	}
	if len(raw) > maxDeclaration {
		return lifecycle.Service{}, lifecycle.Errorf(lifecycle.Invalid, "declaration: over %d bytes; long prompts belong in an artifact", maxDeclaration)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		return lifecycle.Service{}, lifecycle.Errorf(lifecycle.Invalid, "declaration: %w", err)
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return lifecycle.Service{}, lifecycle.Errorf(lifecycle.Invalid, "declaration: keys must be text: %w", err)
	}
	service, err := lifecycle.DecodeService(asJSON)
	if err != nil {
		return lifecycle.Service{}, err
	}
	return service, service.CheckZones(zone)
}

// zone says whether there is such a time zone.
func zone(name string) error {
	_, err := time.LoadLocation(name)
	return err
}

// ReadServiceFile reads a declaration from a file; "-" is standard input.
func ReadServiceFile(path string) (lifecycle.Service, error) {
	if path == "-" {
		return ReadService(os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return lifecycle.Service{}, lifecycle.Errorf(lifecycle.Invalid, "declaration: %w", err)
	}
	defer f.Close()
	return ReadService(f)
}

// Schema is the JSON schema of a service declaration, generated from the Go types so that it cannot
// disagree with them.
func Schema() ([]byte, error) {
	reflector := jsonschema.Reflector{ExpandedStruct: true, Anonymous: true, Mapper: textual}
	schema := reflector.Reflect(&lifecycle.Service{})
	schema.Title = "Refit service"
	out, err := json.MarshalIndent(schema, "", "  ")
	return append(out, '\n'), err
}

// textual gives the JSON form of types that encode themselves.
func textual(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[lifecycle.Duration]():
		return &jsonschema.Schema{Type: "string", Description: "a duration with its unit: 90s, 24h"}
	case reflect.TypeFor[json.RawMessage]():
		return &jsonschema.Schema{Type: "object", Description: "parameters that the job itself understands"}
	default:
		return nil
	}
}
