package main

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/lifecycle"
)

// signing is who signs what this process makes, and whose signature it asks for.
type signing struct {
	signer  ed25519.PrivateKey
	trusted []ed25519.PublicKey // the signer's own first; none: no signature is asked for
	made    string              // the file of the key that was made under data; empty: the settings name the keys
}

// asks gives the faults of a role's settings: a process of its own says which keys, or that there are none.
func asks(s configs.Signing, makes bool, faults *lifecycle.Problems) {
	const remedy = "name ed25519 keys (signing.private_key_file where artifacts and releases are made, signing.public_key_files where " +
		"they are only loaded), or say signing.off: true; `refit up` makes a key by itself"
	switch {
	case s.ByItself():
		faults.Add("signing", "missing", remedy)
	case s.Off && (s.PrivateKeyFile != "" || len(s.PublicKeyFiles) > 0):
		faults.Add("signing.off", "true, and keys are named", "leave out one of them")
	case !s.Off && makes && s.PrivateKeyFile == "":
		faults.Add("signing.private_key_file", "missing", "what is made here would be refused; "+remedy)
	}
}

// openSigning reads the keys that the settings name. Where they name none, and signing is not off, it takes the one under
// data, which it makes the first time.
func openSigning(settings configs.Settings) (signing, error) {
	var out signing
	s := settings.Signing
	if s.Off {
		return out, nil
	}
	path := s.PrivateKeyFile
	if s.ByItself() {
		path = filepath.Join(settings.Data, "signing-key.pem")
		if _, err := readOrMake(path, newKey); err != nil {
			return out, lifecycle.Errorf(lifecycle.Invalid, "data: %w", err)
		}
		out.made = path
	}
	if path != "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			return out, lifecycle.Errorf(lifecycle.Invalid, "signing.private_key_file: %w", err)
		}
		if out.signer, err = parsePrivateKey(raw, "signing.private_key_file", path); err != nil {
			return out, err
		}
		out.trusted = append(out.trusted, out.signer.Public().(ed25519.PublicKey))
	}
	if out.made != "" {
		return out, keepPublicKey(strings.TrimSuffix(path, ".pem")+".pub.pem", out.signer)
	}
	for _, file := range s.PublicKeyFiles {
		key, err := readPublicKey("signing.public_key_files", file)
		if err != nil {
			return out, err
		}
		out.trusted = append(out.trusted, key)
	}
	return out, nil
}

// id names the key that signs.
func (s signing) id() string { return lifecycle.KeyID(s.signer.Public().(ed25519.PublicKey)) }

// String says for people whose signature must be there.
func (s signing) String() string {
	if len(s.trusted) == 0 {
		return "off: nothing is signed, nothing need be (signing.off)"
	}
	said := "asked for, by key " + strings.Join(lifecycle.KeyNames(s.trusted), " or ")
	switch {
	case s.made != "":
		return said + fmt.Sprintf("; what is made here is signed with %s", s.made)
	case s.signer != nil:
		return said + "; what is made here is signed"
	}
	return said
}
