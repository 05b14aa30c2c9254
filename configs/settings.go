package configs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/viper"

	"github.com/refitml/refit/internal/lifecycle"
)

// Settings set up a process. Every field can be given in a settings file or as an environment variable
// with prefix REFIT_ and underscores: gateway.listen is REFIT_GATEWAY_LISTEN.
type Settings struct {
	Data     string   `mapstructure:"data"` // folder for caches, spool, jobs and keys
	Registry Registry `mapstructure:"registry"`
	Temporal Temporal `mapstructure:"temporal"`
	S3       S3       `mapstructure:"s3"`
	Gateway  Gateway  `mapstructure:"gateway"`
	Control  Control  `mapstructure:"control"`
	Grants   Grants   `mapstructure:"grants"`
	Signing  Signing  `mapstructure:"signing"`
	Worker   Worker   `mapstructure:"worker"`
	Scoring  Scoring  `mapstructure:"scoring"`
	Traces   Traces   `mapstructure:"traces"`
	Log      Log      `mapstructure:"log"`
}

// Registry is the PostgreSQL that holds the record.
type Registry struct {
	URL         string `mapstructure:"url"`          // of the application's role
	OwnerURL    string `mapstructure:"owner_url"`    // of the owner, for migrations only
	RollbackURL string `mapstructure:"rollback_url"` // of the role that may only roll back
}

// Temporal is where workflows run.
type Temporal struct {
	Address   string `mapstructure:"address"`
	Namespace string `mapstructure:"namespace"`
	UI        string `mapstructure:"ui"`        // base address of the Temporal UI, for links
	TLS       bool   `mapstructure:"tls"`       // also on where one of the files is given
	CAFile    string `mapstructure:"ca_file"`   // certificates that the server's is checked with; default: the system's
	CertFile  string `mapstructure:"cert_file"` // of this client, with key_file
	KeyFile   string `mapstructure:"key_file"`
	APIKey    string `mapstructure:"api_key"` // reference: env:NAME or file:/absolute/path
}

// S3 is where artifacts live.
type S3 struct {
	Endpoint  string `mapstructure:"endpoint"` // host:port
	Bucket    string `mapstructure:"bucket"`
	Region    string `mapstructure:"region"`
	AccessKey string `mapstructure:"access_key"`
	SecretKey string `mapstructure:"secret_key"`
	TLS       bool   `mapstructure:"tls"`

	// LockTime is how long anchors of ledgers are locked, where the bucket has object lock.
	LockTime time.Duration `mapstructure:"lock_time"`
}

// Gateway is the data plane.
type Gateway struct {
	Listen       string        `mapstructure:"listen"`
	TLS          TLS           `mapstructure:"tls"`
	ID           string        `mapstructure:"id"`            // name in reports; default: host name and port
	Services     []string      `mapstructure:"services"`      // to serve; default: every applied one, as they come
	Keys         string        `mapstructure:"keys"`          // API keys: required, or optional; default: optional where only this machine can reach it
	KeyFile      string        `mapstructure:"key_file"`      // 32 bytes or more that sign conversations, the same at all gateways; default: one kept under data
	ClientHeader string        `mapstructure:"client_header"` // header by which a proxy in front names the client; default: none is trusted
	Drain        time.Duration `mapstructure:"drain"`         // how long a clean shutdown waits for requests

	ConversationHeader string `mapstructure:"conversation_header"` // header by which clients name their conversations; default: none
	ConversationClaim  string `mapstructure:"conversation_claim"`  // the header holds a JWT, and this claim of it is the name; default: it holds the name
}

// TLS is how a listener proves itself; with neither file it speaks plain HTTP. The files are read again when they
// change.
type TLS struct {
	CertFile string `mapstructure:"cert_file"` // PEM, the listener's own certificate first
	KeyFile  string `mapstructure:"key_file"`  // PEM
}

// Control is the control API and the console.
type Control struct {
	Listen    string  `mapstructure:"listen"`
	TLS       TLS     `mapstructure:"tls"`
	CAFile    string  `mapstructure:"ca_file"`    // certificates that the CLI checks the API's with; default: the system's
	URL       string  `mapstructure:"url"`        // where the CLI finds it; default: made of listen
	TokenFile string  `mapstructure:"token_file"` // the CLI's token; default: one under data, made at the first start with role admin
	Tokens    []Token `mapstructure:"tokens"`     // of further people, in the settings file
	SignIn    bool    `mapstructure:"sign_in"`    // ask for a token before showing the page, also on this machine
	OIDC      OIDC    `mapstructure:"oidc"`
}

// OIDC lets people in by tokens of an OpenID Connect provider, beside those of the settings. Without an issuer it is off.
type OIDC struct {
	Issuer     string     `mapstructure:"issuer"`      // as it stands in its tokens
	Audience   string     `mapstructure:"audience"`    // that tokens must be for
	NameClaim  string     `mapstructure:"name_claim"`  // whose value is the name in the ledger; default sub
	RolesClaim string     `mapstructure:"roles_claim"` // whose values are looked up in roles; default roles
	CAFile     string     `mapstructure:"ca_file"`     // certificates that the provider's is checked with; default: the system's
	Roles      []OIDCRole `mapstructure:"roles"`
}

// OIDCRole gives a role to who has a value in the roles claim.
type OIDCRole struct {
	Value    string   `mapstructure:"value"`
	Role     string   `mapstructure:"role"`     // viewer, operator, approver, admin
	Services []string `mapstructure:"services"` // where; default: in all
}

// Token lets somebody in at the control API.
type Token struct {
	Name     string            `mapstructure:"name"`     // in the ledger
	Role     string            `mapstructure:"role"`     // in all services: viewer, operator, approver, admin; may be left out where services gives some
	Services map[string]string `mapstructure:"services"` // roles in some services, where they are more
	Secret   string            `mapstructure:"secret"`   // reference: env:NAME or file:/absolute/path
}

// Grants are the keys of approvals: the console signs with the private one, workers check with the public one.
// By default both lie under data and are made at the first start.
type Grants struct {
	PrivateKeyFile string `mapstructure:"private_key_file"` // ed25519 in PKCS #8, PEM
	PublicKeyFile  string `mapstructure:"public_key_file"`  // ed25519 in PKIX, PEM
}

// Signing says who signs artifacts and releases, and whose signature they must have to be loaded. Who signs is trusted by
// itself. With neither, all roles in one process make a key under data; a role of its own asks for one.
type Signing struct {
	PrivateKeyFile string   `mapstructure:"private_key_file"` // ed25519 in PKCS #8, PEM: of workers and the console
	PublicKeyFiles []string `mapstructure:"public_key_files"` // ed25519 in PKIX, PEM: trusted by workers and gateways
	Off            bool     `mapstructure:"off"`              // nothing is signed here, and nothing need be
}

// ByItself says whether the settings leave signing to the process: they name no key, and do not say that it is off.
func (s Signing) ByItself() bool {
	return !s.Off && s.PrivateKeyFile == "" && len(s.PublicKeyFiles) == 0
}

// Worker runs workflows and activities.
type Worker struct {
	Queues    []string      `mapstructure:"queues"`     // default: all
	DataRoots []string      `mapstructure:"data_roots"` // folders that sources of kind folder may lie in
	Runtime   string        `mapstructure:"runtime"`    // path of refit-runtime
	Slots     int           `mapstructure:"slots"`      // jobs at once on the local engine
	Metrics   string        `mapstructure:"metrics"`    // listen address of /metrics; empty: none of its own
	BuildID   string        `mapstructure:"build_id"`   // version that runs are pinned to; default: the commit of the build
	Drain     time.Duration `mapstructure:"drain"`      // how long a clean shutdown waits for steps
}

// Scoring is whom suites may ask for scores, by names that suites use. Suites bring none of it.
type Scoring struct {
	Judges   map[string]Judge        `mapstructure:"judges"`
	Commands map[string]ScoreCommand `mapstructure:"commands"`
}

// Judge is a model behind an OpenAI-compatible endpoint.
type Judge struct {
	URL       string        `mapstructure:"url"`        // base address without /v1
	Model     string        `mapstructure:"model"`      // to ask for
	APIKey    string        `mapstructure:"api_key"`    // reference: env:NAME or file:/absolute/path
	TimeLimit time.Duration `mapstructure:"time_limit"` // of one question; default 2m
}

// ScoreCommand is a program that scores: JSON on standard input, {"score": number} on standard output.
type ScoreCommand struct {
	Argv      []string      `mapstructure:"argv"`       // program and arguments; no shell
	TimeLimit time.Duration `mapstructure:"time_limit"` // of one item; default 30s
}

// Traces says where gateways send the spans of sampled requests.
type Traces struct {
	Endpoint string            `mapstructure:"endpoint"` // of an OTLP/HTTP receiver, http://host:4318; empty: no spans are made
	Ratio    float64           `mapstructure:"ratio"`    // of requests that are sampled, by their trace's ID
	Parents  bool              `mapstructure:"parents"`  // sample also what the client's traceparent says is sampled
	Headers  map[string]string `mapstructure:"headers"`  // sent to the receiver; values are references: env:NAME or file:/absolute/path
}

// Log says how to log.
type Log struct {
	Level  string `mapstructure:"level"`  // debug, info, warn, error
	Format string `mapstructure:"format"` // text or json
}

// Load reads settings: defaults, then the stack's file, then the settings file, then the environment,
// the last one given wins. An unreadable file or an unknown field is an error, a missing stack file is not.
func Load(file string) (Settings, error) {
	v := viper.New()
	setDefaults(v)
	v.SetEnvPrefix("REFIT")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	if err := mergeStack(v, os.Getenv("REFIT_STACK")); err != nil {
		return Settings{}, err
	}
	if file != "" {
		v.SetConfigFile(file)
		if err := v.MergeInConfig(); err != nil {
			return Settings{}, lifecycle.Errorf(lifecycle.Invalid, "settings file: %w", err)
		}
	}
	var s Settings
	if err := v.UnmarshalExact(&s); err != nil {
		return Settings{}, lifecycle.Errorf(lifecycle.Invalid, "settings: %w", err)
	}
	if s.Data == "" {
		s.Data = ".refit"
	}
	var err error
	if s.Data, err = filepath.Abs(s.Data); err != nil {
		return Settings{}, lifecycle.Errorf(lifecycle.Invalid, "data: %w", err)
	}
	if s.Control.TokenFile == "" {
		s.Control.TokenFile = filepath.Join(s.Data, "control-token")
	}
	if s.Control.URL == "" {
		s.Control.URL = "http://" + s.Control.Listen
		if s.Control.TLS.CertFile != "" {
			s.Control.URL = "https://" + s.Control.Listen
		}
	}
	return s, nil
}

// setDefaults names every key, because viper reads only named keys from the environment.
func setDefaults(v *viper.Viper) {
	for key, value := range map[string]any{
		"data": "", "registry.url": "", "registry.owner_url": "", "registry.rollback_url": "",
		"temporal.address": "127.0.0.1:7233", "temporal.namespace": "refit", "temporal.ui": "",
		"temporal.tls": false, "temporal.ca_file": "", "temporal.cert_file": "", "temporal.key_file": "", "temporal.api_key": "",
		"s3.endpoint": "", "s3.bucket": "refit", "s3.region": "us-east-1", "s3.access_key": "", "s3.secret_key": "", "s3.tls": false,
		"s3.lock_time":   365 * 24 * time.Hour,
		"gateway.listen": "127.0.0.1:8080", "gateway.id": "", "gateway.services": []string{}, "gateway.keys": "", "gateway.key_file": "",
		"gateway.client_header": "", "gateway.conversation_header": "", "gateway.conversation_claim": "",
		"gateway.tls.cert_file": "", "gateway.tls.key_file": "", "gateway.drain": 20 * time.Second,
		"control.listen": "127.0.0.1:8090", "control.tls.cert_file": "", "control.tls.key_file": "", "control.ca_file": "",
		"control.url": "", "control.token_file": "", "control.tokens": []any{},
		"control.oidc.issuer": "", "control.oidc.audience": "", "control.oidc.name_claim": "", "control.oidc.roles_claim": "",
		"control.oidc.ca_file": "", "control.oidc.roles": []any{},
		"control.sign_in": false, "grants.private_key_file": "", "grants.public_key_file": "",
		"signing.private_key_file": "", "signing.public_key_files": []string{}, "signing.off": false,
		"worker.queues": []string{}, "worker.data_roots": []string{}, "worker.runtime": "refit-runtime",
		"worker.slots": 1, "worker.metrics": "", "worker.build_id": "", "worker.drain": 10 * time.Second,
		"scoring.judges": map[string]any{}, "scoring.commands": map[string]any{},
		"traces.endpoint": "", "traces.ratio": 0.01, "traces.parents": false, "traces.headers": map[string]string{},
		"log.level": "info", "log.format": "text",
	} {
		v.SetDefault(key, value)
	}
}

// stack is the file that the one-machine stack writes when it is ready.
type stack struct {
	Data     string `json:"data"`
	Postgres struct {
		OwnerURL    string `json:"owner_url"`
		AppURL      string `json:"app_url"`
		RollbackURL string `json:"rollback_url"`
	} `json:"postgres"`
	Temporal struct {
		Address   string `json:"address"`
		Namespace string `json:"namespace"`
		UIURL     string `json:"ui_url"`
	} `json:"temporal"`
	S3 struct {
		Endpoint  string `json:"endpoint"`
		AccessKey string `json:"access_key"`
		SecretKey string `json:"secret_key"`
		Bucket    string `json:"bucket"`
	} `json:"s3"`
}

func mergeStack(v *viper.Viper, file string) error {
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return lifecycle.Errorf(lifecycle.Unavailable, "REFIT_STACK: %s is not there; start the stack with `make up`", file)
	}
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "REFIT_STACK: %w", err)
	}
	var s stack
	if err := json.Unmarshal(raw, &s); err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "REFIT_STACK: %s: %w", file, err)
	}
	return v.MergeConfigMap(map[string]any{
		"registry": map[string]any{"url": s.Postgres.AppURL, "owner_url": s.Postgres.OwnerURL, "rollback_url": s.Postgres.RollbackURL},
		"temporal": map[string]any{"address": s.Temporal.Address, "namespace": s.Temporal.Namespace, "ui": s.Temporal.UIURL},
		"s3": map[string]any{
			"endpoint": s.S3.Endpoint, "access_key": s.S3.AccessKey, "secret_key": s.S3.SecretKey, "bucket": s.S3.Bucket,
		},
	})
}
