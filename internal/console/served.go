package console

import (
	"context"
	"net/http"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// servedData is what the page of a moment shows.
type servedData struct {
	Service string
	At      string              // as the form takes it, in UTC
	Served  *lifecycle.ServedAt // nil: it could not be read
	Fault   string
}

// momentForm is how a browser's form writes a moment; the page says that it is UTC.
const momentForm = "2006-01-02T15:04:05"

// serveServed shows what served a service at a moment, who let it and on which evidence.
func (c *console) serveServed(w http.ResponseWriter, r *http.Request) {
	caller, _, ok := c.visitor(r)
	if !ok {
		http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	data := servedData{Service: r.FormValue("service"), At: r.FormValue("at")}
	at, err := moment(data.At, c.cfg.Now())
	if err != nil {
		data.Fault = "The moment cannot be read; give one such as 2026-05-03T14:03 (UTC)."
		c.render(w, r, http.StatusBadRequest, "served.html", data)
		return
	}
	data.At = at.Format(momentForm)
	served, err := control.Served.Do(ctx, c.cfg.Control, caller, control.ServedInput{Service: data.Service, At: at})
	status := http.StatusOK
	switch {
	case lifecycle.Is(err, lifecycle.NotFound):
		data.Fault, status = "No such service is declared.", http.StatusNotFound
	case err != nil:
		data.Fault, status = c.unread(r, "The ledger could not be read", err), http.StatusServiceUnavailable
	default:
		data.Served = &served
	}
	c.render(w, r, status, "served.html", data)
}

// moment reads what a form sent, in UTC; nothing is now.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return now.UTC(), nil
	}
	if at, err := time.Parse(momentForm, text); err == nil {
		return at, nil
	}
	at, err := time.Parse("2006-01-02T15:04", text)
	return at, err
}
