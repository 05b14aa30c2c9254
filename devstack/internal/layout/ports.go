package layout

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

// Ports are the TCP ports of a stack, all on the loopback address.
type Ports struct {
	Postgres   int `json:"postgres"`
	Temporal   int `json:"temporal"`    // frontend, gRPC
	TemporalUI int `json:"temporal_ui"` // HTTP
	S3         int `json:"s3"`          // HTTP

	// Ports between Temporal's own services: picked free, nobody outside needs them.
	History  int `json:"temporal_history"`
	Matching int `json:"temporal_matching"`
	Worker   int `json:"temporal_worker"`
}

type port struct {
	name    string // what it is for
	setting string // the environment variable that changes it; empty for internal ones
	usual   int    // 0 picks a free one
	value   *int
}

func (p *Ports) all() []port {
	return []port{
		{"PostgreSQL", "REFIT_POSTGRES_PORT", 15432, &p.Postgres},
		{"the Temporal frontend", "REFIT_TEMPORAL_PORT", 7233, &p.Temporal},
		{"the Temporal UI", "REFIT_TEMPORAL_UI_PORT", 8233, &p.TemporalUI},
		{"S3", "REFIT_S3_PORT", 9000, &p.S3},
		{"Temporal's history service", "", 0, &p.History},
		{"Temporal's matching service", "", 0, &p.Matching},
		{"Temporal's worker service", "", 0, &p.Worker},
	}
}

// ChoosePorts settles every port: the environment first, then what the folder remembers, then the usual one;
// with free set, a free one instead of the usual one and of a remembered one that is busy. All faults are
// reported together: each names the port, what it is for, and the setting that changes it. ours says that
// the cluster of this folder runs already and holds the given port (0: it does not run); it then keeps it.
// The choice is written to ports.json before anything starts.
func ChoosePorts(f Folder, getenv func(string) string, free bool, ours int) (Ports, error) {
	var remembered, ports Ports
	if err := readJSON(f.Path("ports.json"), &remembered); err != nil {
		return Ports{}, err
	}
	taken := map[int]string{}
	var faults []error
	for i, p := range ports.all() {
		before := *remembered.all()[i].value
		value, pinned, err := chosen(p, before, getenv, free)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if p.value == &ports.Postgres && ours != 0 {
			value, pinned = ours, true
		}
		switch {
		case value == 0:
		case taken[value] != "":
			faults = append(faults, fmt.Errorf("port %d is asked for twice, for %s and for %s; %s", value, taken[value], p.name, p.remedy(getenv)))
		case value == ours && p.value == &ports.Postgres:
		case !listens(value):
			if !pinned {
				value = 0
				break
			}
			faults = append(faults, fmt.Errorf("port %d (%s) is busy; %s", value, p.name, p.remedy(getenv)))
		}
		*p.value = value
		if value != 0 {
			taken[value] = p.name
		}
	}
	if len(faults) > 0 {
		return Ports{}, errors.Join(faults...)
	}
	for _, p := range ports.all() {
		if *p.value == 0 {
			*p.value = pick(taken)
			if *p.value == 0 {
				return Ports{}, fmt.Errorf("no free port found for %s", p.name)
			}
			taken[*p.value] = p.name
		}
	}
	if err := writeJSON(f.Path("ports.json"), ports); err != nil {
		return Ports{}, fmt.Errorf("remember ports: %w", err)
	}
	return ports, nil
}

// chosen is the port before anybody looked whether it is free; 0 asks for any free one. A pinned one must not
// be replaced by another.
func chosen(p port, before int, getenv func(string) string, free bool) (value int, pinned bool, err error) {
	if p.setting == "" {
		return before, false, nil
	}
	if text := getenv(p.setting); text != "" {
		value, err := strconv.Atoi(text)
		if err != nil || value < 1 || value > 65535 {
			return 0, false, fmt.Errorf("%s is %q; give a port from 1 to 65535", p.setting, text)
		}
		return value, true, nil
	}
	if free {
		return before, false, nil
	}
	if before != 0 {
		return before, true, nil
	}
	return p.usual, true, nil
}

func (p port) remedy(getenv func(string) string) string {
	if getenv(p.setting) != "" {
		return fmt.Sprintf("set %s to another", p.setting)
	}
	return fmt.Sprintf("set %s to another, or give --free-ports", p.setting)
}

// listens says whether a server could listen on the port now.
func listens(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// pick draws a free port below the range from which systems draw ports of outgoing connections, so that none of
// those takes it between two runs. 0 means that a thousand draws found none.
func pick(taken map[int]string) int {
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		if taken[port] == "" && listens(port) {
			return port
		}
	}
	return 0
}

// Address is the loopback address of a port as host:port.
func Address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// String names ports for people, one a line.
func (p Ports) String() string {
	var b strings.Builder
	for _, port := range p.all()[:4] {
		fmt.Fprintf(&b, "%s %s\n", port.name, Address(*port.value))
	}
	return b.String()
}
