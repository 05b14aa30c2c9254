package temporal

import (
	"net"
	"strconv"
	"time"

	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/common/primitives"
)

// Config describes a server.
type Config struct {
	PostgresAddress string // host:port
	Role, Password  string // owner of both databases
	Database        string // workflows
	Visibility      string // their list, searchable

	Host     string // address that everything listens on
	Frontend int    // ports
	History  int
	Matching int
	Worker   int
	UI       int

	Namespace        string
	SearchAttributes []string // of type Keyword
}

const (
	defaultStore    = "workflows"
	visibilityStore = "visibility"
	clusterName     = "active"
)

func (c Config) frontend() string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Frontend)) }

// sql describes one database. Each of the four services opens its own pool of that size.
func (c Config) sql(database string, connections int) *config.SQL {
	return &config.SQL{
		PluginName: postgresql.PluginNamePGX, ConnectAddr: c.PostgresAddress, ConnectProtocol: "tcp",
		DatabaseName: database, User: c.Role, Password: c.Password,
		MaxConns: connections, MaxIdleConns: connections, MaxConnLifetime: time.Hour,
	}
}

func (c Config) services() map[primitives.ServiceName]int {
	return map[primitives.ServiceName]int{
		primitives.FrontendService: c.Frontend, primitives.HistoryService: c.History,
		primitives.MatchingService: c.Matching, primitives.WorkerService: c.Worker,
	}
}

func (c Config) server() *config.Config {
	cfg := &config.Config{
		Persistence: config.Persistence{
			DefaultStore: defaultStore, VisibilityStore: visibilityStore, NumHistoryShards: 4,
			DataStores: map[string]config.DataStore{
				defaultStore:    {SQL: c.sql(c.Database, 12)},
				visibilityStore: {SQL: c.sql(c.Visibility, 5)},
			},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10, MasterClusterName: clusterName, CurrentClusterName: clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: c.frontend()},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		PublicClient:        config.PublicClient{HostPort: c.frontend()},
		Services:            map[string]config.Service{},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: "disabled"},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		}},
	}
	cfg.Global.Membership = config.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: c.Host}
	for name, port := range c.services() {
		cfg.Services[string(name)] = config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: c.Host}}
	}
	return cfg
}

func (c Config) hosts() map[primitives.ServiceName]static.Hosts {
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, port := range c.services() {
		hosts[name] = static.SingleLocalHost(net.JoinHostPort(c.Host, strconv.Itoa(port)))
	}
	return hosts
}

// dynamic keeps caches and partitions at the size of one small machine.
func dynamic() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():        2000,
		dynamicconfig.EventsHostLevelCacheMaxSizeBytes.Key():    32 << 20,
	}
}
