package console

import (
	"html/template"
	"net/http"

	"github.com/refitml/refit/internal/control"
)

// page shows every service: what serves, what is on its way, the way back. A browser sends no bearer
// token, so the page shows only what a viewer may see and changes nothing; keep the address private.
type page struct {
	cfg Config
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Refit</title>
<meta http-equiv="refresh" content="5">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; color: #1c2430; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } th, td { text-align: left; padding: .2rem 1.2rem .2rem 0; }
th { color: #667; font-weight: 500; } code { background: #eef1f5; padding: 0 .3em; border-radius: 3px; }
</style>
<h1>Refit</h1>
{{if .Error}}<p>{{.Error}}</p>{{end}}
{{range .Services}}
<h2>{{.Service}}</h2>
<table>
<tr><th>stable</th><td><code>{{.Route.Stable.Short}}</code> generation {{.Route.Generation}}</td></tr>
{{if .Route.Canary}}<tr><th>canary</th><td><code>{{.Route.Canary.Short}}</code> at {{.Route.Share}}</td></tr>{{end}}
<tr><th>way back</th><td>{{.WayBack}}</td></tr>
<tr><th>attribution</th><td>{{.Attributed}}</td></tr>
<tr><th>gateways</th><td>{{len .Gateways}} live{{range .Behind}}, behind: {{.}}{{end}}</td></tr>
{{with .Rollout}}<tr><th>rollout</th><td>{{.Phase}} <code>{{.Release.Short}}</code> {{.Reason}}</td></tr>{{end}}
{{with .Running}}<tr><th>now</th><td>{{.Phase}}: {{.Reason}}</td></tr>{{end}}
{{if .TemporalUI}}<tr><th>workflow</th><td><a href="{{.TemporalUI}}">in the Temporal UI</a></td></tr>{{end}}
</table>
{{else}}<p>No service is declared yet: <code>refit apply FILE</code>.</p>
{{end}}</html>
`))

type pageData struct {
	Services []control.StatusResult
	Error    string
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	viewer := control.Caller{Name: "page", Role: control.Viewer, Via: "console"}
	var data pageData
	services, err := control.Services.Do(r.Context(), p.cfg.Control, viewer, struct{}{})
	for _, s := range services {
		status, failed := control.Status.Do(r.Context(), p.cfg.Control, viewer, control.StatusInput{Service: s.Service})
		if failed != nil {
			err = failed
			continue
		}
		data.Services = append(data.Services, status)
	}
	if err != nil {
		data.Error = "Not everything could be read: the registry did not answer."
		p.cfg.Log.Warn("console page", "error", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if err := pageTemplate.Execute(w, data); err != nil {
		p.cfg.Log.Warn("console page", "error", err)
	}
}
