package main

import (
	"context"
	"crypto/x509"
	"net"
	"os"
	"os/user"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/console"
	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
	"github.com/refitml/refit/internal/telemetry"
)

// runConsole serves the control API and the page. They answer, if only with what is wrong, also while the
// registry or Temporal is away.
func (p *process) runConsole(ctx context.Context, s *shared) error {
	record, captured, err := s.record(ctx)
	if err != nil {
		return err
	}
	temporal, err := s.workflows()
	if err != nil {
		return err
	}
	private, err := p.privateGrantKey()
	if err != nil {
		return err
	}
	tokens, err := p.tokens()
	if err != nil {
		return err
	}
	var anchors control.Anchors
	var reports control.Reports // without S3 the rest is answered
	if p.settings.S3.Endpoint != "" {
		store, _, err := s.artifacts()
		if err != nil {
			return err
		}
		anchors, reports = store, store
	}
	use := control.New(control.Config{
		Anchors: anchors, Registry: record, Captured: captured, Reports: reports, Temporal: temporal, Namespace: p.settings.Temporal.Namespace,
		TemporalUI: p.settings.Temporal.UI, GrantKey: private, Signing: p.signing.String(), Log: p.log,
	})
	people, err := p.people()
	if err != nil {
		return err
	}
	p.warnOfPlain(consoleRole, "control")
	handler := console.New(console.Config{
		Control: use, Tokens: tokens, People: people, SignIn: p.settings.Control.SignIn, Log: p.log, Metrics: telemetry.Handler(p.metrics),
	})
	return serveHTTP(ctx, p.listeners[consoleRole], handler)
}

// warnOfPlain: whoever listens to the network between reads tokens, keys and answers, unless somebody speaks TLS in
// front.
func (p *process) warnOfPlain(role, setting string) {
	at, ok := p.listeners[role].Addr().(*net.TCPAddr)
	if ok && !at.IP.IsLoopback() && !p.secured[role] {
		p.log.Warn("it speaks plain HTTP on an address that others reach; give a certificate or put something that speaks TLS in front",
			"role", role, "listens", at, "setting", setting+".tls")
	}
}

// tokens are the CLI's own and those of the settings.
func (p *process) tokens() ([]console.Token, error) {
	own, err := ownToken(p.settings.Control.TokenFile)
	if err != nil {
		return nil, err
	}
	tokens := []console.Token{{Name: userName(), Role: control.Admin, Secret: own}}
	for _, t := range p.settings.Control.Tokens {
		secret, err := configs.Secret(t.Secret)
		if err != nil {
			return nil, lifecycle.Wrap(err, "control.tokens: %s", t.Name)
		}
		token := console.Token{Name: t.Name, Role: control.Role(t.Role), Services: map[string]control.Role{}, Secret: secret}
		for service, role := range t.Services {
			token.Services[service] = control.Role(role)
		}
		tokens = append(tokens, token)
	}
	return tokens, console.CheckTokens(tokens)
}

// people knows the bearers of an OpenID Connect provider's tokens; nil where the settings name no provider.
func (p *process) people() (console.People, error) {
	s := p.settings.Control.OIDC
	if s.Issuer == "" {
		return nil, nil
	}
	cfg := control.OIDCConfig{Issuer: s.Issuer, Audience: s.Audience, NameClaim: s.NameClaim, RolesClaim: s.RolesClaim}
	for _, r := range s.Roles {
		cfg.Roles = append(cfg.Roles, control.RoleMapping{Value: r.Value, Role: control.Role(r.Role), Services: r.Services})
	}
	if s.CAFile != "" {
		raw, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "control.oidc.ca_file: %w", err)
		}
		cfg.CAs = x509.NewCertPool()
		if !cfg.CAs.AppendCertsFromPEM(raw) {
			return nil, lifecycle.Errorf(lifecycle.Invalid, "control.oidc.ca_file: %s holds no certificate in PEM", s.CAFile)
		}
	}
	return control.NewOIDC(cfg)
}

// userName is whose the token file is: who may read it acts in this name.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return "unnamed"
	}
	return u.Username
}
