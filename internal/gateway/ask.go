package gateway

import (
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/refitml/refit/internal/answer"
)

// bodyTime is how long a client may take to send its body.
const bodyTime = 30 * time.Second

// readBody reads a request's body within the limits of size and time.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) (*answer.Buffer, *problem) {
	if p := acceptable(r, limit); p != nil {
		w.Header().Set("Connection", "close") // the body is not read
		return nil, p
	}
	if !arrived(r) {
		control := http.NewResponseController(w)
		if control.SetReadDeadline(time.Now().Add(bodyTime)) == nil { // some writers have none
			defer func() { _ = control.SetReadDeadline(time.Time{}) }() // an answer may take as long as it likes
		}
	}
	from := r.Body
	if r.ContentLength < 0 {
		from = http.MaxBytesReader(w, from, limit) // it also ends the connection
	}
	body, err := answer.ReadBody(from, r.ContentLength, limit)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large), errors.Is(err, answer.ErrTooLong):
		p := tooLarge()
		return nil, &p
	case err != nil:
		p := badRequest("the request's body could not be read")
		return nil, &p
	}
	return body, nil
}

// acceptable refuses by a request's head what could not be read as one JSON body anyway: other encodings and media
// types, and what is too long. A body without a type is taken for JSON.
func acceptable(r *http.Request, limit int64) *problem {
	for _, encoding := range r.Header.Values("Content-Encoding") {
		if !strings.EqualFold(encoding, "identity") {
			p := unsupported("the body is compressed; send it as it is, without Content-Encoding")
			return &p
		}
	}
	if types := r.Header["Content-Type"]; len(types) > 0 && (len(types) > 1 || types[0] != "application/json") {
		kind, parameters, err := mime.ParseMediaType(types[0])
		charset, other := parameters["charset"]
		if err != nil || len(types) > 1 || kind != "application/json" || other && !strings.EqualFold(charset, "utf-8") {
			p := unsupported("the body is not said to be JSON in UTF-8; send Content-Type: application/json")
			return &p
		}
	}
	if r.ContentLength > limit {
		p := tooLarge()
		return &p
	}
	return nil
}

// read reads and understands a request's body, and finds the lane that it asks for. What is refused here was not
// admitted: it earns the canary no credit and reaches no model server. Whoever gets a request frees it.
func (g *Gateway) read(w http.ResponseWriter, r *http.Request, endpoint string) (*lane, *answer.Asked, *problem) {
	body, p := readBody(w, r, g.config.MaxBody)
	if p != nil {
		return nil, nil, p
	}
	asked, err := answer.ReadBuffer(endpoint, body)
	if err != nil {
		p := failed(err)
		return nil, nil, &p
	}
	l := g.lane(asked.Model())
	switch {
	case asked.Model() == "":
		p = new(badRequest("model: missing; give the service's name, see /v1/models"))
	case l == nil:
		p = new(noService(asked.Model()))
	default:
		return l, asked, nil
	}
	asked.Free()
	return nil, nil, p
}
