package artifacts

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/minio/minio-go/v7"

	"github.com/refitml/refit/internal/lifecycle"
)

// fault gives an error from the server its kind and says what was being tried. What is not an answer of the
// server is a network that did not carry: Unavailable. The caller's own cancellation stays what it is.
func fault(ctx context.Context, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf(format, args...)
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
	}
	var known *lifecycle.Error
	if errors.As(err, &known) {
		return lifecycle.Wrap(err, "%s", doing)
	}
	return lifecycle.Errorf(serverKind(err), "%s: %w", doing, err)
}

func serverKind(err error) lifecycle.Kind {
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return lifecycle.Unavailable
	}
	switch {
	case slices.Contains([]string{"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "XAmzContentChecksumMismatch"}, answer.Code):
		return lifecycle.Corrupt
	case answer.StatusCode == http.StatusNotFound, answer.Code == minio.NoSuchKey, answer.Code == minio.NoSuchBucket:
		return lifecycle.NotFound
	case answer.StatusCode == http.StatusPreconditionFailed:
		return lifecycle.Conflict
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		return lifecycle.Refused
	case answer.StatusCode == http.StatusConflict, answer.StatusCode == http.StatusTooManyRequests,
		answer.StatusCode >= 500, answer.StatusCode == 0:
		return lifecycle.Unavailable
	default:
		return lifecycle.Internal
	}
}

func code(err error) string {
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return answer.Code
	}
	return ""
}

// corrupt names the damaged file in the message and, for programs, in Fields["file"].
func corrupt(file, format string, args ...any) error {
	return &lifecycle.Error{
		Kind: lifecycle.Corrupt, Message: "file " + file + " is damaged",
		Fields: map[string]string{"file": file}, Err: fmt.Errorf(format, args...),
	}
}
