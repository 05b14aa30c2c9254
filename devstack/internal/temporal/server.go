package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/server_options"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/temporal"
	schematool "go.temporal.io/server/tools/common/schema"
	"go.temporal.io/server/tools/sql"
	"google.golang.org/protobuf/types/known/durationpb"
)

// retention is how long a closed run stays.
const retention = 7 * 24 * time.Hour

// Migrate brings the schema of one database up to this server's version. kind is "temporal" or "visibility".
func (c Config) Migrate(database, kind string) error {
	logger := log.NewNoopLogger()
	conn, err := sql.NewConnection(c.sql(database, 2), logger)
	if err != nil {
		return fmt.Errorf("connect to database %s: %w", database, err)
	}
	defer conn.Close()
	if _, err := conn.ReadSchemaVersion(); err != nil {
		setup := schematool.NewSetupSchemaTask(conn, &schematool.SetupConfig{InitialVersion: "0.0"}, logger)
		if err := setup.Run(); err != nil {
			return fmt.Errorf("set up schema of database %s: %w", database, err)
		}
	}
	update := schematool.NewUpdateSchemaTask(conn, &schematool.UpdateConfig{SchemaName: "postgresql/v12/" + kind}, logger)
	if err := update.Run(); err != nil {
		return fmt.Errorf("bring schema of database %s up to date: %w", database, err)
	}
	return nil
}

// Server is a running Temporal server with its UI.
type Server struct {
	server temporal.Server
	ui     *uiserver.Server
}

// Start starts the server, then waits until the namespace answers and can be searched by its attributes, then
// starts the UI.
func Start(ctx context.Context, c Config) (*Server, error) {
	logger := log.NewZapLogger(log.BuildZapLogger(log.Config{Level: "error", Format: "console"}))
	cfg := c.server()
	authorizer, err := authorization.GetAuthorizerFromConfig(&cfg.Global.Authorization)
	if err != nil {
		return nil, fmt.Errorf("make Temporal's authorizer: %w", err)
	}
	claims, err := authorization.GetClaimMapperFromConfig(&cfg.Global.Authorization, logger)
	if err != nil {
		return nil, fmt.Errorf("make Temporal's claim mapper: %w", err)
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(cfg), temporal.ForServices(temporal.DefaultServices), temporal.WithStaticHosts(c.hosts()),
		temporal.WithLogger(logger), temporal.WithDynamicConfigClient(dynamic()), temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
	)
	if err != nil {
		return nil, fmt.Errorf("make Temporal server: %w", err)
	}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start Temporal server: %w", err)
	}
	s := &Server{server: server}
	if err := c.provide(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	s.ui = uiserver.NewServer(server_options.WithConfigProvider(&uiconfig.Config{
		TemporalGRPCAddress: c.frontend(), Host: c.Host, Port: c.UI, EnableUI: true, DefaultNamespace: c.Namespace,
		DisableNewsFetch: true, HideLogs: true, CORS: uiconfig.CORS{CookieInsecure: true},
	}))
	go s.ui.Start() // it ends the process if it cannot listen; its port was seen free
	return s, nil
}

// Stop ends UI and server in order.
func (s *Server) Stop() error {
	if s.ui != nil {
		s.ui.Stop()
	}
	if err := s.server.Stop(); err != nil {
		return fmt.Errorf("stop Temporal server: %w", err)
	}
	return nil
}

// provide registers namespace and search attributes and returns when both can be used.
func (c Config) provide(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	options := client.Options{HostPort: c.frontend(), Namespace: c.Namespace, Logger: silent{}}
	namespaces, err := client.NewNamespaceClient(options)
	if err != nil {
		return fmt.Errorf("make namespace client: %w", err)
	}
	defer namespaces.Close()
	err = until(ctx, func() error {
		err := namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace: c.Namespace, WorkflowExecutionRetentionPeriod: durationpb.New(retention),
		})
		var there *serviceerror.NamespaceAlreadyExists
		if err != nil && !errors.As(err, &there) {
			return err
		}
		_, err = namespaces.Describe(ctx, c.Namespace)
		return err
	})
	if err != nil {
		return fmt.Errorf("register namespace %s: %w", c.Namespace, err)
	}
	cl, err := client.NewLazyClient(options)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	if err := until(ctx, func() error { return c.addSearchAttributes(ctx, cl) }); err != nil {
		return fmt.Errorf("register search attributes: %w", err)
	}
	return nil
}

// addSearchAttributes adds those that are missing, and tries each in a query: the server learns of new ones
// a little later than it accepts them.
func (c Config) addSearchAttributes(ctx context.Context, cl client.Client) error {
	listed, err := cl.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: c.Namespace})
	if err != nil {
		return err
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, name := range c.SearchAttributes {
		if _, there := listed.CustomAttributes[name]; !there {
			missing[name] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) > 0 {
		_, err := cl.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
			Namespace: c.Namespace, SearchAttributes: missing,
		})
		if err != nil {
			return err
		}
	}
	for _, name := range c.SearchAttributes {
		_, err := cl.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: c.Namespace, Query: name + " = 'none'",
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// until tries every 100 ms until it works or the context ends, and then says what failed last.
func until(ctx context.Context, try func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// silent drops what the SDK's client says: failures come back as errors.
type silent struct{}

var _ sdklog.Logger = silent{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}
