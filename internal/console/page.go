package console

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

// pageTime bounds how long a page waits for what it shows.
const pageTime = 8 * time.Second

// What a page shows of a service's history.
const (
	pageLedger   = 12
	pageVerdicts = 6
)

//go:embed page
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"time":       func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
	"step":       func(index int) int { return index + 1 },
	"bp":         func(share lifecycle.BasisPoints) int { return int(share) },
	"subject":    subject,
	"text":       func(raw json.RawMessage) string { return string(raw) },
	"speed":      classOfSpeed,
	"outcome":    classOfOutcome,
	"phase":      classOfPhase,
	"attributed": classOfAttribution,
}).ParseFS(files, "page/*.html"))

func subject(s string) string {
	if d := lifecycle.Digest(s); d.Valid() {
		return d.Short()
	}
	return s
}

func classOfSpeed(speed string) string {
	switch speed {
	case control.Instant:
		return "good"
	case control.NoWayBack:
		return "bad"
	default:
		return "warn"
	}
}

func classOfOutcome(o lifecycle.Outcome) string {
	switch o {
	case lifecycle.PassOutcome:
		return "good"
	case lifecycle.RegressOutcome, lifecycle.ErrorOutcome:
		return "bad"
	default:
		return "warn"
	}
}

func classOfPhase(p lifecycle.RolloutPhase) string {
	switch p {
	case lifecycle.RolloutPromoted:
		return "good"
	case lifecycle.RolloutRolledBack, lifecycle.RolloutInvalid:
		return "bad"
	default:
		return "warn"
	}
}

func classOfAttribution(a string) string {
	if a == "verified" {
		return "good"
	}
	return "warn"
}

// pageData is all that the page shows.
type pageData struct {
	Caller       control.Caller
	SignedIn     bool
	WorkflowsURL string
	Services     []serviceData
	Faults       []string // what could not be read; never shown as if it were nothing
	Now          time.Time
}

type serviceData struct {
	Status   control.StatusResult
	Stable   *control.ReleaseServers // nil: nothing serves
	Canary   *control.ReleaseServers
	Verdicts []lifecycle.Verdict
	Ledger   []lifecycle.LedgerEntry // newest first
	Links    []control.StartLink
}

// servePage shows every service: what serves, what is on its way, the way back, and how it came to that.
func (c *console) servePage(w http.ResponseWriter, r *http.Request) {
	caller, signedIn, ok := c.visitor(r)
	if !ok {
		http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), pageTime)
	defer cancel()
	data := pageData{Caller: caller, SignedIn: signedIn, WorkflowsURL: c.cfg.Control.WorkflowsURL(), Now: c.cfg.Now()}
	services, err := control.Services.Do(ctx, c.cfg.Control, caller, struct{}{})
	if err != nil {
		data.Faults = append(data.Faults, c.unread(r, "The services could not be read", err))
	}
	for _, s := range services {
		shown, err := c.readService(ctx, caller, s.Service)
		if err != nil {
			data.Faults = append(data.Faults, c.unread(r, "Service "+s.Service+" could not be read", err))
			continue
		}
		data.Services = append(data.Services, shown)
	}
	c.render(w, r, http.StatusOK, "page.html", data)
}

func (c *console) readService(ctx context.Context, caller control.Caller, name string) (serviceData, error) {
	var out serviceData
	var errs [3]error
	out.Status, errs[0] = control.Status.Do(ctx, c.cfg.Control, caller, control.StatusInput{Service: name})
	out.Verdicts, errs[1] = control.Evaluations.Do(ctx, c.cfg.Control, caller, control.EvaluationsInput{Service: name, Limit: pageVerdicts})
	out.Ledger, errs[2] = control.Ledger.Do(ctx, c.cfg.Control, caller, control.LedgerInput{Service: name, Limit: pageLedger})
	slices.Reverse(out.Ledger)
	for i, servers := range out.Status.Servers {
		switch servers.Release {
		case out.Status.Route.Stable:
			out.Stable = &out.Status.Servers[i]
		case out.Status.Route.Canary:
			out.Canary = &out.Status.Servers[i]
		}
	}
	out.Links = c.cfg.Control.StartLinks(name)
	return out, errors.Join(errs[:]...)
}

// unread logs why something could not be read; the page says only what and what sort of failure.
func (c *console) unread(r *http.Request, what string, err error) string {
	c.cfg.Log.WarnContext(r.Context(), "the page is not whole", "what", what, "error", err)
	return what + " (" + string(lifecycle.KindOf(err)) + "). The log of the console says more."
}

// render writes a page whole or not at all.
func (c *console) render(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, data); err != nil {
		c.cfg.Log.ErrorContext(r.Context(), "a page could not be written", "page", name, "error", err)
		http.Error(w, "the page could not be written; see the log of the console", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = out.WriteTo(w) // the client has left; there is nobody to tell
}

func (c *console) serveStyle(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, files, "page/style.css")
}
