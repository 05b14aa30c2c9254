package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/configs"
	"github.com/refitml/refit/internal/lifecycle"
)

func TestSigningKeysAreReadFromPEM(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	raw, err := newKey()
	require.NoError(t, err)
	private := write("key.pem", raw)
	keys, err := openSigning(configs.Settings{Signing: configs.Signing{PrivateKeyFile: private}})
	require.NoError(t, err)
	require.Len(t, keys.signer, ed25519.PrivateKeySize)
	public := keys.signer.Public().(ed25519.PublicKey)
	require.Equal(t, []ed25519.PublicKey{public}, keys.trusted, "who signs is trusted")
	pkix, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	require.Equal(t, string(lifecycle.DigestOf(pkix)), keys.id())
	for setting, s := range map[string]configs.Signing{
		"signing.private_key_file": {PrivateKeyFile: write("bad.pem", []byte("no key"))},
		"signing.public_key_files": {PublicKeyFiles: []string{private}},
	} {
		_, err := openSigning(configs.Settings{Signing: s})
		require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
		require.ErrorContains(t, err, setting)
	}
}

func TestWhereTheSettingsNameNoKeyOneIsMadeAndKept(t *testing.T) {
	t.Parallel()
	settings := configs.Settings{Data: filepath.Join(t.TempDir(), "data")}
	first, err := openSigning(settings)
	require.NoError(t, err)
	require.Len(t, first.trusted, 1)
	again, err := openSigning(settings)
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.Contains(t, first.String(), first.id()[:12])
	require.Contains(t, first.String(), "signing-key.pem")
	info, err := os.Stat(filepath.Join(settings.Data, "signing-key.pem"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	// Gateways elsewhere are given the public half.
	elsewhere, err := openSigning(configs.Settings{Signing: configs.Signing{PublicKeyFiles: []string{filepath.Join(settings.Data, "signing-key.pub.pem")}}})
	require.NoError(t, err)
	require.Equal(t, first.trusted, elsewhere.trusted)
	require.Nil(t, elsewhere.signer)

	off, err := openSigning(configs.Settings{Data: t.TempDir(), Signing: configs.Signing{Off: true}})
	require.NoError(t, err)
	require.Empty(t, off.trusted)
	require.Nil(t, off.signer)
	require.Contains(t, off.String(), "signing.off")
	_, err = sign(t.Context(), configs.Settings{Signing: configs.Signing{Off: true}}, []string{"docs"})
	require.ErrorContains(t, err, "openssl genpkey -algorithm ed25519")
}

func TestARoleOfItsOwnSaysWhoseSignatureItAsksFor(t *testing.T) {
	t.Parallel()
	private, public := configs.Signing{PrivateKeyFile: "k.pem"}, configs.Signing{PublicKeyFiles: []string{"k.pub.pem"}}
	for name, tc := range map[string]struct {
		signing configs.Signing
		makes   bool
		fault   string // its path; empty: none
	}{
		"a gateway that says nothing":      {configs.Signing{}, false, "signing:"},
		"a worker that says nothing":       {configs.Signing{}, true, "signing:"},
		"off":                              {configs.Signing{Off: true}, true, ""},
		"off, and a key":                   {configs.Signing{Off: true, PrivateKeyFile: "k.pem"}, true, "signing.off:"},
		"a gateway with public keys":       {public, false, ""},
		"a worker with a private key":      {private, true, ""},
		"a worker with public keys alone":  {public, true, "signing.private_key_file:"},
		"a gateway that could sign itself": {private, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var faults lifecycle.Problems
			asks(tc.signing, tc.makes, &faults)
			if tc.fault == "" {
				require.Empty(t, faults)
				return
			}
			require.ErrorContains(t, faults.Err("settings"), tc.fault)
		})
	}
}
