package arrows

// row is what one package may import besides the standard library: rooms of this module by their path
// in it, and other modules by their path's beginning. never names what must not be reached by any way.
type row struct {
	rooms   []string
	modules []string
	never   []string
}

// Beginnings of third parties' paths.
const (
	temporalSDK = "go.temporal.io/sdk"
	temporalAPI = "go.temporal.io/api"
	pgx         = "github.com/jackc/pgx/v5"
	goose       = "github.com/pressly/goose/v3"
	minio       = "github.com/minio/minio-go/v7"
	viper       = "github.com/spf13/viper"
	cobra       = "github.com/spf13/cobra"
	prometheus  = "github.com/prometheus"
	otel        = "go.opentelemetry.io"
	gonum       = "gonum.org/v1/gonum"
	yaml        = "go.yaml.in/yaml/v3"
	xtext       = "golang.org/x/text"
	xmod        = "golang.org/x/mod"
	xsync       = "golang.org/x/sync"
	xsys        = "golang.org/x/sys"
	highwayhash = "github.com/minio/highwayhash"
	jsonschema  = "github.com/invopop/jsonschema"
	compress    = "github.com/klauspost/compress"
	schemaCheck = "github.com/santhosh-tekuri/jsonschema/v6"
	testify     = "github.com/stretchr/testify"
	protobuf    = "google.golang.org/protobuf"
	oidc        = "github.com/coreos/go-oidc/v3"
	parquet     = "github.com/parquet-go/parquet-go"
)

const (
	lifecycle  = "internal/lifecycle"
	steps      = "internal/steps"
	stats      = "internal/stats"
	corpus     = "internal/corpus"
	retrieval  = "internal/retrieval"
	evaluation = "internal/evaluation"
	score      = "internal/evaluation/score"
	form       = "internal/evaluation/form"
	imports    = "internal/evaluation/imports"
	rollout    = "internal/rollout"
	freeze     = "internal/freeze"
	feedback   = "internal/feedback"
	answer     = "internal/answer"
	registry   = "internal/registry"
	capture    = "internal/capture"
	compute    = "internal/compute"
	serving    = "internal/serving"
	gateway    = "internal/gateway"
	control    = "internal/control"
	console    = "internal/console"
	telemetry  = "internal/telemetry"
	demo       = "internal/demo"
	artifacts  = "artifacts"
	configs    = "configs"
	workflows  = "workflows"
	activities = "activities"
	workers    = "workers"
)

// world is what a room of thought never reaches: data comes to it as values.
var world = []string{"net", "net/http", "database/sql", "os/exec", pgx, minio, temporalSDK}

// table is the house: who may know whom.
var table = map[string]row{
	lifecycle: {never: append([]string{temporalAPI, gonum}, world...)},
	steps:     {rooms: []string{lifecycle}, modules: []string{temporalSDK, temporalAPI}, never: []string{pgx, minio}},

	stats:      {modules: []string{gonum}, never: world},
	corpus:     {rooms: []string{lifecycle, stats}, modules: []string{xtext}, never: world},
	retrieval:  {rooms: []string{lifecycle, stats}, never: world},
	evaluation: {rooms: []string{lifecycle, stats, score}, never: world},
	form:       {rooms: []string{lifecycle, evaluation, score}, modules: []string{yaml}, never: world},
	imports:    {rooms: []string{lifecycle, evaluation, score}, modules: []string{compress}, never: world},
	score:      {rooms: []string{lifecycle}, modules: []string{schemaCheck}, never: world},
	rollout:    {rooms: []string{lifecycle, stats}, never: world},
	feedback:   {rooms: []string{lifecycle, stats}, never: world},
	freeze:     {rooms: []string{lifecycle}, never: world},

	answer: {rooms: []string{lifecycle, retrieval}, modules: []string{xsys}, never: []string{pgx, minio, temporalSDK}},

	artifacts:                        {rooms: []string{lifecycle}, modules: []string{minio, xsync, xsys}, never: []string{pgx, temporalSDK}},
	registry:                         {rooms: []string{lifecycle}, modules: []string{pgx, goose}, never: []string{minio, temporalSDK}},
	"internal/registry/registrytest": {rooms: []string{lifecycle, registry}, modules: []string{pgx, testify}},
	capture:                          {rooms: []string{lifecycle}, modules: []string{pgx, parquet}, never: []string{minio, temporalSDK}},
	compute:                          {rooms: []string{lifecycle}, modules: []string{xsys}, never: []string{pgx, minio, temporalSDK}},
	"internal/compute/computetest":   {rooms: []string{lifecycle, compute}, modules: []string{testify}},
	serving:                          {rooms: []string{lifecycle}, modules: []string{prometheus, xsys}, never: []string{pgx, minio, temporalSDK}},
	telemetry:                        {modules: []string{prometheus, otel}, never: []string{pgx, minio, temporalSDK}},

	gateway: {
		rooms:   []string{lifecycle, answer, rollout, registry, capture, artifacts, retrieval, telemetry},
		modules: []string{prometheus, otel, xsync, highwayhash}, never: []string{temporalSDK},
	},
	control: {
		rooms:   []string{lifecycle, steps, freeze, rollout, registry, capture},
		modules: []string{temporalSDK, temporalAPI, oidc}, never: []string{minio},
	},
	console: {rooms: []string{lifecycle, control}, never: []string{minio}},

	workflows: {rooms: []string{lifecycle, steps}, modules: []string{temporalSDK, temporalAPI}, never: []string{pgx, minio, gonum}},
	activities: {
		rooms: []string{
			lifecycle, steps, stats, corpus, retrieval, evaluation, form, score, rollout, feedback, freeze, answer,
			registry, capture, compute, serving, artifacts,
		},
		modules: []string{temporalSDK, temporalAPI, xmod},
	},
	workers: {
		rooms:   []string{lifecycle, steps, workflows, activities},
		modules: []string{temporalSDK, temporalAPI, protobuf},
	},

	configs: {rooms: []string{lifecycle}, modules: []string{viper, yaml, jsonschema}, never: []string{pgx, minio, temporalSDK}},
	"cmd/refit": {
		rooms: []string{
			lifecycle, steps, configs, control, console, gateway, workers, activities, registry, capture,
			compute, serving, artifacts, telemetry, evaluation, form, imports, score,
		},
		modules: []string{cobra, viper, temporalSDK, prometheus, xsync},
	},
	// The demo is a user: it meets the house at its control API and its gateway, and counts at the model servers.
	demo:                      {rooms: []string{lifecycle, steps, control, configs, serving, corpus}},
	"cmd/refit-demo":          {rooms: []string{lifecycle, demo}},
	"configs/internal/schema": {rooms: []string{configs}},
	"internal/arrows":         {},
	"internal/e2e":            {},
}
