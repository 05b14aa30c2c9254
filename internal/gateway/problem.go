package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/refitml/refit/internal/answer"
	"github.com/refitml/refit/internal/lifecycle"
)

// problem is a failure in the OpenAI API's shape. Its message never holds a word of prompt or answer.
type problem struct {
	status  int
	kind    string // "type" in JSON
	code    string
	message string
	param   string // the field that is at fault; empty: none is named
	retry   int    // seconds; 0 for none
}

func (p problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if p.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retry))
	}
	w.WriteHeader(p.status)
	var param any
	if p.param != "" {
		param = p.param
	}
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone; there is nobody left to tell
		"error": map[string]any{"message": p.message, "type": p.kind, "param": param, "code": p.code},
	})
}

func badRequest(message string) problem {
	return problem{status: http.StatusBadRequest, kind: "invalid_request_error", code: "invalid_request", message: message}
}

func tooLarge() problem {
	return problem{
		status: http.StatusRequestEntityTooLarge, kind: "invalid_request_error", code: "request_too_large",
		message: "the request is longer than this gateway takes",
	}
}

func unsupported(message string) problem {
	return problem{status: http.StatusUnsupportedMediaType, kind: "invalid_request_error", code: "unsupported_media_type", message: message}
}

func noService(name string) problem {
	if len(name) > 63 {
		name = name[:63]
	}
	return problem{
		status: http.StatusNotFound, kind: "invalid_request_error", code: "model_not_found",
		message: "there is no service " + strconv.Quote(name) + "; give the service's name as model, see /v1/models",
	}
}

func notReady(service string) problem {
	return problem{
		status: http.StatusServiceUnavailable, kind: "server_error", code: "not_ready", retry: 2,
		message: "service " + strconv.Quote(service) + " has no stable release that is ready",
	}
}

func unauthorized(given bool) problem {
	message := "no API key was given; send one as Authorization: Bearer KEY"
	if given {
		message = "the API key is not known, expired or revoked"
	}
	return problem{status: http.StatusUnauthorized, kind: "invalid_request_error", code: "invalid_api_key", message: message}
}

func keysUnknown() problem {
	return problem{
		status: http.StatusServiceUnavailable, kind: "server_error", code: "not_ready", retry: 2,
		message: "this gateway does not know the API keys yet",
	}
}

// overLimit says that a key's limit of "requests" or "tokens" is used up. A request that alone is over the limit
// is told so, and not to try again.
func overLimit(what string, limit int64, q quota) problem {
	p := problem{
		status: http.StatusTooManyRequests, kind: what, code: "rate_limit_exceeded", retry: seconds(q.wait),
		message: "the API key's limit of " + strconv.FormatInt(limit, 10) + " " + what + " a minute is reached; try again in " + q.wait.Round(time.Second).String(),
	}
	if q.wait == 0 {
		p.message = "the request alone is over the API key's limit of " + strconv.FormatInt(limit, 10) + " " + what + " a minute"
	}
	return p
}

// longestRetry bounds what a client is told to wait, in seconds.
const longestRetry = 60

// busy says that no model server has room, and when one is likely to: the limit is the service's, not the client's.
func busy(err error) problem {
	retry := 1
	var full fullError
	var upstream *answer.UpstreamError
	switch {
	case errors.As(err, &full):
		retry = seconds(full.after)
	case errors.As(err, &upstream):
		retry, _ = strconv.Atoi(upstream.RetryAfter) // a date, or nothing, is a second
	}
	return problem{
		status: http.StatusServiceUnavailable, kind: "server_error", code: "overloaded", retry: min(max(retry, 1), longestRetry),
		message: "every model server is busy; try again",
	}
}

// late says that the time for the answer was over before it began.
func late() problem {
	return problem{
		status: http.StatusGatewayTimeout, kind: "server_error", code: "timeout",
		message: "the time for this request was over before its answer began",
	}
}

// failed says what became of a request that no model server answered.
func failed(err error) problem {
	switch kind := lifecycle.KindOf(err); kind {
	case lifecycle.Invalid:
		return badRequest(err.Error())
	case lifecycle.Unavailable:
		return problem{
			status: http.StatusServiceUnavailable, kind: "server_error", code: "upstream_unavailable", retry: 1,
			message: "the model server did not answer",
		}
	case lifecycle.NotFound:
		return problem{
			status: http.StatusNotFound, kind: "invalid_request_error", code: "not_served",
			message: "the release that serves does not have what this endpoint needs: an embedder, for embeddings",
		}
	default:
		return problem{
			status: http.StatusBadGateway, kind: "server_error", code: "upstream_error",
			message: "the model server's answer could not be used",
		}
	}
}
