package lifecycle

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// DecodeStrictly reads one JSON value: an unknown field, or something after the value, is an error.
func DecodeStrictly(raw []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the value")
	}
	return nil
}
