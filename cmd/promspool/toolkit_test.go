package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	agenttest.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	agenttest.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	agenttest.NoError(t, err)
	return &authority{cert, key}
}

// issue returns the certificate and the key in PEM.
func (ca *authority) issue(t *testing.T, usage x509.ExtKeyUsage) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	agenttest.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &private.PublicKey, ca.key)
	agenttest.NoError(t, err)
	b, err := x509.MarshalECPrivateKey(private)
	agenttest.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: b})
}

// TestTLS has the agent require client certificates, by --web.config.file.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name string, data []byte) {
		agenttest.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	cert, key := ours.issue(t, x509.ExtKeyUsageServerAuth)
	put("cert.pem", cert)
	put("key.pem", key)
	put("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ours.cert.Raw}))
	put("web.yml", []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\nhttp_server_config:\n  http2: true\n"))
	socket := filepath.Join(dir, "push.sock")
	a := agenttest.StartAgent(t, "", "--web.config.file="+filepath.Join(dir, "web.yml"), "--push.socket="+socket, "--web.max-connections=4")
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	client := func(ca *authority, http2 bool) *http.Client {
		config := &tls.Config{RootCAs: roots}
		if ca != nil {
			pair, err := tls.X509KeyPair(ca.issue(t, x509.ExtKeyUsageClientAuth))
			agenttest.NoError(t, err)
			config.Certificates = []tls.Certificate{pair}
		}
		transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport, Timeout: agenttest.Timeout}
	}
	url := "https://" + a.Addr
	for _, http2 := range []bool{true, false} {
		c := client(ours, http2)
		resp, err := c.Post(url+"/metrics/job/a", "", strings.NewReader("b 1\n"))
		agenttest.NoError(t, err)
		resp.Body.Close()
		if want := map[bool]int{true: 2, false: 1}[http2]; resp.StatusCode != 200 || resp.ProtoMajor != want {
			t.Errorf("POST = %s by %s, want 200 by HTTP/%d", resp.Status, resp.Proto, want)
		}
	}
	for name, ca := range map[string]*authority{"no certificate": nil, "a certificate of others": others} {
		if resp, err := client(ca, false).Get(url + "/metrics"); err == nil {
			t.Errorf("with %s there is the answer %s", name, resp.Status)
		}
	}
	// More connections than the limit, which are kept open.
	for range 12 {
		resp, err := client(ours, false).Get(url + "/-/ready")
		agenttest.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		agenttest.NoError(t, err)
		resp.Body.Close()
	}
	if code, answer := overSocket(t, socket, "GET", "/metrics", ""); code != 200 || !agenttest.HasLine(answer, `b{job="a"} 1`) {
		t.Errorf("over the socket GET = %d %q", code, answer)
	}
}

// TestRateLimit checks that the toolkit rejects excess requests, but not on the socket.
func TestRateLimit(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "web.yml")
	agenttest.NoError(t, os.WriteFile(config, []byte("rate_limit:\n  interval: 1h\n  burst: 3\n"), 0o600))
	socket := filepath.Join(t.TempDir(), "push.sock")
	a := agenttest.StartAgent(t, "", "--web.config.file="+config, "--push.socket="+socket)
	for i := range 5 {
		code, answer := a.Send("PUT", "/metrics/job/a", "b 1\n")
		if want := map[bool]int{true: 200, false: 429}[i < 3]; code != want {
			t.Errorf("push %d = %d %q, want %d", i+1, code, answer, want)
		}
	}
	for range 5 {
		if code, answer := overSocket(t, socket, "PUT", "/metrics/job/a", "b 2\n"); code != 200 {
			t.Errorf("a push over the socket = %d %q, want 200", code, answer)
		}
	}
}
