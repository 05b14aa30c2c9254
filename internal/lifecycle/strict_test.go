package lifecycle_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/lifecycle"
)

func TestOneValueIsReadStrictly(t *testing.T) {
	t.Parallel()
	var v struct {
		A int `json:"a"`
	}
	require.NoError(t, lifecycle.DecodeStrictly([]byte(` {"a": 1} `), &v))
	require.Equal(t, 1, v.A)
	for _, bad := range []string{``, `{`, `{"b": 1}`, `{"a": "x"}`, `{"a": 1} {}`, `{"a": 1} x`} {
		require.Error(t, lifecycle.DecodeStrictly([]byte(bad), &v), bad)
	}
}
