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
	raw, err := newGrantKey()
	require.NoError(t, err)
	private := write("key.pem", raw)
	signer, trusted, err := signingKeys(configs.Signing{PrivateKeyFile: private})
	require.NoError(t, err)
	require.Len(t, signer, ed25519.PrivateKeySize)
	require.Empty(t, trusted)
	pkix, err := x509.MarshalPKIXPublicKey(signer.Public())
	require.NoError(t, err)
	require.Equal(t, string(lifecycle.DigestOf(pkix)), lifecycle.KeyID(signer.Public().(ed25519.PublicKey)))
	signer, trusted, err = signingKeys(configs.Signing{})
	require.NoError(t, err)
	require.Nil(t, signer)
	require.Empty(t, trusted)
	for setting, s := range map[string]configs.Signing{
		"signing.private_key_file": {PrivateKeyFile: write("bad.pem", []byte("no key"))},
		"signing.public_key_files": {PublicKeyFiles: []string{private}},
	} {
		_, _, err := signingKeys(s)
		require.Equal(t, lifecycle.Invalid, lifecycle.KindOf(err))
		require.ErrorContains(t, err, setting)
	}
	_, err = sign(t.Context(), configs.Settings{}, "docs")
	require.ErrorContains(t, err, "openssl genpkey -algorithm ed25519")
}
