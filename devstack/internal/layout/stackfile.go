package layout

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
)

// Stack is the stack file: where a ready stack answers, and as whom. Other programs find it by the path in
// REFIT_TEST_STACK or under the data folder.
type Stack struct {
	Data     string        `json:"data"` // absolute path of the data folder
	PID      int           `json:"pid"`  // of the process that runs Temporal and S3
	Postgres StackPostgres `json:"postgres"`
	Temporal StackTemporal `json:"temporal"`
	S3       StackS3       `json:"s3"`
}

// StackPostgres holds the address and one URL per role of the database refit.
type StackPostgres struct {
	Address     string `json:"address"`
	OwnerURL    string `json:"owner_url"`
	AppURL      string `json:"app_url"`
	RollbackURL string `json:"rollback_url"`
}

// StackTemporal holds the frontend's address, the namespace made for Refit, and the UI's URL.
type StackTemporal struct {
	Address   string `json:"address"`
	Namespace string `json:"namespace"`
	UIURL     string `json:"ui_url"`
}

// StackS3 holds what a client of S3 (plain HTTP, path style) needs.
type StackS3 struct {
	Endpoint  string `json:"endpoint"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	Bucket    string `json:"bucket"`
}

// Names that everybody who uses a stack finds there.
const (
	Database     = "refit"
	OwnerRole    = "refit_owner"    // owns the database, may create others (tests do)
	AppRole      = "refit_app"      // what the processes of Refit connect as
	RollbackRole = "refit_rollback" // may execute the rollback function and nothing else
	TemporalRole = "temporal"
	Namespace    = "refit"
	Bucket       = "refit"
)

// NewStack describes a stack on the given ports.
func NewStack(f Folder, p Ports, s Secrets) Stack {
	return Stack{
		Data: string(f),
		PID:  os.Getpid(),
		Postgres: StackPostgres{
			Address:     Address(p.Postgres),
			OwnerURL:    PostgresURL(p.Postgres, OwnerRole, s.Owner, Database),
			AppURL:      PostgresURL(p.Postgres, AppRole, s.App, Database),
			RollbackURL: PostgresURL(p.Postgres, RollbackRole, s.Rollback, Database),
		},
		Temporal: StackTemporal{Address: Address(p.Temporal), Namespace: Namespace, UIURL: "http://" + Address(p.TemporalUI)},
		S3:       StackS3{Endpoint: Address(p.S3), AccessKey: s.S3Access, SecretKey: s.S3Secret, Bucket: Bucket},
	}
}

// PostgresURL is a connection URL on the loopback address.
func PostgresURL(port int, role, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: Address(port), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// WriteStack replaces the stack file in one step.
func (f Folder) WriteStack(s Stack) error { return writeJSON(f.Path("stack.json"), s) }

// ReadStack reads the stack file. fs.ErrNotExist means that no stack is ready; a file that is there may be left
// from a killed process: Holder knows.
func (f Folder) ReadStack() (Stack, error) {
	raw, err := os.ReadFile(f.Path("stack.json"))
	if err != nil {
		return Stack{}, err
	}
	var s Stack
	if err := json.Unmarshal(raw, &s); err != nil {
		return Stack{}, fmt.Errorf("read stack file: %w", err)
	}
	return s, nil
}

// RemoveStack removes the stack file; that it is not there is no fault.
func (f Folder) RemoveStack() error {
	if err := os.Remove(f.Path("stack.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove stack file: %w", err)
	}
	return nil
}

// Secrets are the passwords and keys of one stack, made once.
type Secrets struct {
	Admin    string `json:"postgres"` // the cluster's superuser
	Owner    string `json:"refit_owner"`
	App      string `json:"refit_app"`
	Rollback string `json:"refit_rollback"`
	Temporal string `json:"temporal"`
	S3Access string `json:"s3_access_key"`
	S3Secret string `json:"s3_secret_key"`
}

// LoadSecrets reads the folder's secrets, and makes those that are missing.
func (f Folder) LoadSecrets() (Secrets, error) {
	var s Secrets
	if err := readJSON(f.Path("secrets.json"), &s); err != nil {
		return Secrets{}, fmt.Errorf("read secrets: %w", err)
	}
	before := s
	for _, field := range []*string{&s.Admin, &s.Owner, &s.App, &s.Rollback, &s.Temporal, &s.S3Secret} {
		if *field == "" {
			*field = rand.Text()
		}
	}
	if s.S3Access == "" {
		s.S3Access = "refit" + rand.Text()[:10]
	}
	if s != before {
		if err := writeJSON(f.Path("secrets.json"), s); err != nil {
			return Secrets{}, fmt.Errorf("keep secrets: %w", err)
		}
	}
	return s, nil
}
