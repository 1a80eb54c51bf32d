package peertest

import (
	"strings"
	"testing"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

func TestCurlAsInTheTutorials(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	for _, tt := range []struct {
		name   string
		script string
		code   string
		lines  []string
	}{
		{
			"one metric", `echo "some_metric 3.14" | curl --data-binary @- $URL/metrics/job/some_job`, "200",
			[]string{"# TYPE some_metric untyped", `some_metric{job="some_job"} 3.14`},
		}, {
			"types and help", `cat <<EOF | curl --data-binary @- $URL/metrics/job/some_job/instance/some_instance
# TYPE some_other_metric counter
some_other_metric{label="val1"} 42
# TYPE another_metric gauge
# HELP another_metric Just an example.
another_metric 2398.283
EOF`, "200",
			[]string{
				"# TYPE some_other_metric counter", `some_other_metric{instance="some_instance",job="some_job",label="val1"} 42`,
				"# HELP another_metric Just an example.", "# TYPE another_metric gauge", `another_metric{instance="some_instance",job="some_job"} 2398.283`,
			},
		}, {
			"help in Chinese", `printf '# HELP 中 x\n' >/dev/null; cat <<EOF | curl --data-binary @- $URL/metrics/job/china
# HELP backup_size_bytes 备份的大小（字节）
# TYPE backup_size_bytes gauge
backup_size_bytes{server="北京"} 1024
EOF`, "200",
			[]string{"# HELP backup_size_bytes 备份的大小（字节）", `backup_size_bytes{job="china",server="北京"} 1024`},
		}, {
			"gzip", `printf 'zipped 1\n' | gzip | curl -H 'Content-Encoding: gzip' --data-binary @- $URL/metrics/job/zip`, "200",
			[]string{`zipped{job="zip"} 1`},
		}, {
			"PUT of a file", `printf 'from_file 1\n' >$HOME/m.txt; curl -T $HOME/m.txt $URL/metrics/job/file`, "200",
			[]string{`from_file{job="file"} 1`},
		}, {
			"line ends of Windows", `printf 'windows 1\r\nwindows_too 2\r\n' | curl --data-binary @- $URL/metrics/job/win`, "200",
			[]string{`windows{job="win"} 1`, `windows_too{job="win"} 2`},
		}, {
			"no body", `curl -X POST $URL/metrics/job/nothing`, "200",
			[]string{`push_failure_time_seconds{job="nothing"} 0`},
		}, {
			"DELETE", `printf 'x 1\n' | curl -o /dev/null --data-binary @- $URL/metrics/job/gone; curl -X DELETE $URL/metrics/job/gone`, "202",
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.TrimSpace(a.Curl(tt.script)); !strings.HasSuffix(got, tt.code) {
				t.Errorf("%s\nprints %q, want %s", tt.script, got, tt.code)
			}
			agenttest.WantLines(t, a.Page(), tt.lines...)
		})
	}
}

func TestCurlIsToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	a := agenttest.StartAgent(t, "")
	for _, tt := range []struct{ name, script, code, sentence string }{
		{"-d takes the newlines away", `printf 'a 1\nb 2\n' | curl -d @- $URL/metrics/job/a`, "400", "newline"},
		{"no newline at the end", `curl --data-binary 'a 1' $URL/metrics/job/a`, "400", "newline"},
		{"no job", `echo 'a 1' | curl --data-binary @- $URL/metrics/instance/a`, "404", ""},
		{"a label without a value", `echo 'a 1' | curl --data-binary @- $URL/metrics/job/a/instance`, "400", "instance"},
		{"a timestamp", `echo 'a 1 1700000000000' | curl --data-binary @- $URL/metrics/job/a`, "400", "timestamp"},
		{"a body that is not gzip", `echo 'a 1' | curl -H 'Content-Encoding: gzip' --data-binary @- $URL/metrics/job/a`, "400", "gzip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := a.Curl(tt.script)
			if !strings.HasSuffix(got, "\n "+tt.code) || !strings.Contains(got, tt.sentence) {
				t.Errorf("%s\nprints %q, want a sentence with %q and %s", tt.script, got, tt.sentence, tt.code)
			}
		})
	}
	agenttest.WantNone(t, a.Merge(), "\na{", "\nb{")
}

func TestPageOfAnotherProgramCanBePushed(t *testing.T) {
	t.Parallel()
	node := startNodeExporter(t, t.TempDir())
	a := agenttest.StartAgent(t, "")
	got := a.Curl(`curl -o $HOME/page $NODE/metrics >/dev/null; curl --data-binary @$HOME/page $URL/metrics/job/node`, "NODE=http://"+node.Addr)
	if got != " 200" {
		t.Errorf("the push of node_exporter's page prints %q, want 200", got)
	}
	agenttest.WantLines(t, a.Page(), `node_textfile_scrape_error{job="node"} 0`, `promhttp_metric_handler_requests_total{code="200",job="node"} 0`)
	wantParses(t, a.Page())
}

func TestPageOfAnAgentIsRefused(t *testing.T) {
	t.Parallel()
	a, other := agenttest.StartAgent(t, ""), agenttest.StartAgent(t, "")
	got := a.Curl(`curl -o $HOME/page $OTHER/metrics >/dev/null; curl --data-binary @$HOME/page $URL/metrics/job/other`, "OTHER="+other.URL)
	if !strings.HasPrefix(got, `family "promspool_`) || !strings.Contains(got, " belongs to the agent: ") || !strings.HasSuffix(got, "\n 400") {
		t.Errorf("the push of another agent's page prints %q, want a family that belongs to the agent, and 400", got)
	}
	wantParses(t, a.Page())
}
