package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newPair writes a certificate that vouches for itself on 127.0.0.1, and its key.
func newPair(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "refit test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// served gives the serial number of the certificate that is shown at an address, and the protocol agreed on.
func served(t *testing.T, address string, config *tls.Config) (serial int64, protocol string, err error) {
	t.Helper()
	config.InsecureSkipVerify = true
	config.NextProtos = []string{"h2", "http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(address, "https://"), config)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	state := conn.ConnectionState()
	return state.PeerCertificates[0].SerialNumber.Int64(), state.NegotiatedProtocol, nil
}

func TestTLSForTheGatewayAndTheControlAPI(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	newPair(t, s.path("cert.pem"), s.path("key.pem"), 1)
	pair := map[string]any{"cert_file": s.path("cert.pem"), "key_file": s.path("key.pem")}
	s.values["gateway"]["tls"], s.values["control"]["tls"] = pair, pair
	gateway, console := s.start("gateway"), s.start("console")
	client, err := trusting("test", s.path("cert.pem"))
	require.NoError(t, err)
	for _, address := range []string{gateway.addresses["gateway"], console.addresses["console"]} {
		require.True(t, strings.HasPrefix(address, "https://"), address)
		answer, err := client.Get(address + "/healthz")
		require.NoError(t, err)
		answer.Body.Close()
		require.Equal(t, http.StatusOK, answer.StatusCode)
		plain, err := http.Get("http" + strings.TrimPrefix(address, "https") + "/healthz")
		require.NoError(t, err)
		plain.Body.Close()
		require.Equal(t, http.StatusBadRequest, plain.StatusCode)
		_, _, err = served(t, address, &tls.Config{MaxVersion: tls.VersionTLS11})
		require.Error(t, err, "TLS 1.1 is refused")
		serial, protocol, err := served(t, address, &tls.Config{MaxVersion: tls.VersionTLS12})
		require.NoError(t, err)
		require.EqualValues(t, 1, serial)
		require.Equal(t, "h2", protocol)
	}

	// The command believes whom it is told to believe.
	s.values["control"]["url"] = console.addresses["console"]
	o := command(t.Context(), "status", "docs", "--settings", s.file())
	require.Equal(t, 1, o.code)
	require.Contains(t, o.errors, "certificate")
	s.values["control"]["ca_file"] = s.path("cert.pem")
	o = command(t.Context(), "status", "docs", "--settings", s.file())
	require.Contains(t, o.errors, "read service docs", "the API was reached, and says what it lacks: %s", o.errors)
	s.values["control"]["ca_file"] = s.path("key.pem")
	require.Equal(t, 2, command(t.Context(), "status", "docs", "--settings", s.file()).code)

	// A pair that is written in two steps, or badly, changes nothing until it is good.
	require.NoError(t, os.WriteFile(s.path("cert.pem"), []byte("half"), 0o600))
	require.Eventually(t, func() bool {
		serial, _, err := served(t, gateway.addresses["gateway"], &tls.Config{})
		require.NoError(t, err)
		require.EqualValues(t, 1, serial)
		return strings.Contains(gateway.log.String(), "the changed certificate cannot be used")
	}, patience, tick)
	newPair(t, s.path("cert.pem"), s.path("key.pem"), 2)
	for _, address := range []string{gateway.addresses["gateway"], console.addresses["console"]} {
		require.Eventually(t, func() bool {
			serial, _, err := served(t, address, &tls.Config{})
			require.NoError(t, err)
			return serial == 2
		}, patience, tick)
	}
	require.Zero(t, gateway.end())
	require.Zero(t, console.end())

	pair["key_file"] = s.path("nothing.pem")
	o = command(t.Context(), "gateway", "--settings", s.file())
	require.Equal(t, 2, o.code)
	require.Contains(t, o.errors, "gateway.tls.key_file")
}
