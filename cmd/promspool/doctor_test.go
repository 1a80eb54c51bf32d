package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestScriptDoctor(t *testing.T) { runScripts(t, "doctor") }

// TestDoctorOnAnotherProgram asks what is no promspool.
func TestDoctorOnAnotherProgram(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"a Pushgateway": `{"status":"success","data":{"build_information":{"version":"1.5.1"},"flags":{"push.disable-consistency-check":"false"}}}`,
		"some page":     `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
			defer srv.Close()
			stdout, stderr, status := command{
				name: promspool, args: []string{"--spool.directory=" + t.TempDir(), "doctor", "--url=" + srv.URL, "--prometheus.config=none", "--node-exporter.defaults=none"},
			}.run(t)
			if status != 1 || stderr != "" || !strings.Contains(stdout, "is no promspool, but perhaps a Pushgateway") {
				t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
			}
		})
	}
}
