package main_test

import (
	"io"
	"net"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// TestIdleConnectionsDoNotShutOutAScrape opens many more connections than the limit:
// silent ones, ones that stop within a request, and idle keep-alive ones.
func TestIdleConnectionsDoNotShutOutAScrape(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "", "--web.max-connections=8")
	for i := range 60 {
		conn, err := net.Dial("tcp", a.Addr)
		agenttest.NoError(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, []string{"", "GET /metrics HTT", "GET /-/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"}[i%3])
		agenttest.NoError(t, err)
	}
	a.Push("/metrics/job/a", "b 1\n")
	agenttest.WantLines(t, a.Page(), `b{job="a"} 1`, "promspool_spool_limit_bytes +Inf", "promspool_spool_limit_groups +Inf")
}
