package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// problem is an error in the form of the OpenAI API.
type problem struct {
	status  int
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (p *problem) Error() string { return p.Message }

// outcome of a request that ended with this problem.
func (p *problem) outcome() string {
	switch {
	case p.status == http.StatusNotFound:
		return outcomeNotFound
	case p.status == http.StatusTooManyRequests, p.status == http.StatusServiceUnavailable:
		return outcomeRejected
	case p.status < 500:
		return outcomeInvalid
	}
	return outcomeError
}

func newProblem(status int, kind, param, code, message string) *problem {
	p := &problem{status: status, Message: message, Type: kind}
	if param != "" {
		p.Param = &param
	}
	if code != "" {
		p.Code = &code
	}
	return p
}

// invalid is a fault of the request, in one parameter where that can be said.
func invalid(param, format string, args ...any) *problem {
	message := fmt.Sprintf(format, args...)
	if param != "" {
		message = param + ": " + message
	}
	return newProblem(http.StatusBadRequest, "invalid_request_error", param, "", message)
}

func tooLong(param, format string, args ...any) *problem {
	p := invalid(param, format, args...)
	code := "context_length_exceeded"
	p.Code = &code
	return p
}

func unknownModel(name, does string) *problem {
	return newProblem(http.StatusNotFound, "invalid_request_error", "model", "model_not_found",
		fmt.Sprintf("The model %q is not served for %s here.", bounded(name), does))
}

// asProblem gives the problem in err, or one that tells nothing of an unexpected failure.
func asProblem(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return newProblem(http.StatusInternalServerError, "server_error", "", "", "The server failed to compute an answer.")
}

func (p *problem) body() []byte {
	raw, err := json.Marshal(map[string]*problem{"error": p})
	if err != nil {
		panic("encode an error of strings: " + err.Error()) // strings always encode
	}
	return raw
}

func (p *problem) write(w http.ResponseWriter) {
	if p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(p.status)
	_, _ = w.Write(append(p.body(), '\n')) // a client that is gone misses nothing
}

// bounded keeps what clients sent short in messages and logs.
func bounded(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most]
	}
	return s
}
