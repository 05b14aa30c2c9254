package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/refitml/refit/internal/lifecycle"
)

// minToken is the fewest characters that a token may have.
const minToken = 20

// ownToken reads the CLI's token, and makes it at the first start.
func ownToken(path string) (string, error) {
	raw, err := readOrMake(path, func() ([]byte, error) { return []byte(rand.Text() + rand.Text() + "\n"), nil })
	if err != nil {
		return "", lifecycle.Errorf(lifecycle.Invalid, "control.token_file: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if len(token) < minToken {
		return "", lifecycle.Errorf(lifecycle.Invalid, "control.token_file: %s holds less than %d characters; remove it to have one made", path, minToken)
	}
	return token, nil
}

// privateGrantKey signs approvals. One that the settings name must be there; the one under data is made.
func (p *process) privateGrantKey() (ed25519.PrivateKey, error) {
	path := p.settings.Grants.PrivateKeyFile
	var raw []byte
	var err error
	if path == "" {
		path = p.path("grant-key.pem")
		raw, err = readOrMake(path, newKey)
	} else {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "grants.private_key_file: %w", err)
	}
	key, err := parsePrivateKey(raw, "grants.private_key_file", path)
	if err != nil {
		return nil, err
	}
	if p.settings.Grants.PrivateKeyFile == "" {
		err = keepPublicKey(p.path("grant-key.pub.pem"), key)
	}
	return key, err
}

// keepPublicKey lays the public key beside the private one, for other machines.
func keepPublicKey(path string, key ed25519.PrivateKey) error {
	_, err := readOrMake(path, func() ([]byte, error) {
		raw, err := x509.MarshalPKIXPublicKey(key.Public())
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw}), err
	})
	if err != nil {
		return lifecycle.Errorf(lifecycle.Invalid, "data: %w", err)
	}
	return nil
}

// newKey makes an ed25519 key, PEM.
func newKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}

// publicGrantKey checks approvals: the one that the settings name, else the one of the private key under data.
func (p *process) publicGrantKey() (ed25519.PublicKey, error) {
	path := p.settings.Grants.PublicKeyFile
	if path == "" {
		private, err := p.privateGrantKey()
		if err != nil {
			return nil, err
		}
		return private.Public().(ed25519.PublicKey), nil
	}
	return readPublicKey("grants.public_key_file", path)
}

// readOrMake reads a secret's file, and makes it, for its owner only, where it is missing. Two processes that
// make it at the same time agree on one: the link of the second fails.
func readOrMake(path string, content func() ([]byte, error)) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return raw, err
	}
	made, err := content()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-") // mode 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(made)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// parsePrivateKey reads an ed25519 key that a setting names.
func parsePrivateKey(raw []byte, setting, path string) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s: %s is not PEM", setting, path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s: %s holds no ed25519 key in PKCS #8", setting, path)
	}
	return key, nil
}

func readPublicKey(setting, path string) (ed25519.PublicKey, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s: %w", setting, err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s: %s is not PEM", setting, path)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	key, ok := parsed.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, lifecycle.Errorf(lifecycle.Invalid, "%s: %s holds no ed25519 key in PKIX", setting, path)
	}
	return key, nil
}
