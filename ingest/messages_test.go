package ingest_test

import (
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/promspool/promspool/filestore"
	"github.com/promspool/promspool/filestore/exposition"
	"github.com/promspool/promspool/filestore/merge"
	"github.com/promspool/promspool/ingest"
)

// message is a push that is rejected, and the answer to it.
type message struct {
	name   string
	body   string
	header []string
	want   string // without the newline at the end
}

// TestMessages is the table of all messages to clients, to be read as a whole.
func TestMessages(t *testing.T) {
	own := map[string]merge.Own{
		"process_cpu_seconds_total":  {Type: exposition.Counter},
		"go_gc_duration_seconds":     {Type: exposition.Summary, Labels: []string{"quantile"}},
		"promhttp_requests_in_total": {Type: exposition.Counter},
	}
	a := start(t, &filestore.Options{Own: own}, func(c *ingest.Config) {
		c.Limits = exposition.Limits{Series: 20, Labels: 6, LabelName: 30, LabelValue: 100}
		c.MaxBytes = 1 << 20
	})
	a.want(200, "PUT", "/metrics/job/other", "# TYPE jobs counter\njobs 1\n# TYPE lat histogram\nlat_bucket{le=\"+Inf\"} 1\nlat_sum 1\nlat_count 1\ntaken 1\n")
	if err := a.store.Drop("dropped.prom", []byte("dropped{job=\"j\"} 1\n"), false); err != nil {
		t.Fatal(err)
	}
	tests := []message{
		{
			name: "dash in a name", body: "backup-size 1\n",
			want: `line 1: invalid metric name "backup-size": use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "percent sign in a name", body: "cpu% 12\n",
			want: `line 1: invalid metric name "cpu%": use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "dot in a name with labels", body: "disk.used{path=\"/\"} 1\n",
			want: `line 1: invalid metric name "disk.used": use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "digit before a name", body: "5xx_total 1\n",
			want: `line 1: invalid metric name "5xx_total": use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "quoted name", body: "{\"some.name\"} 1\n",
			want: `line 1: invalid metric name "some.name": use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "no name", body: "{a=\"x\"} 1\n",
			want: "line 1: the sample has labels but no metric name: write it before the braces",
		},
		{
			name: "no value", body: "m\n",
			want: `line 1: metric "m": the sample has no value: write a number after the name`,
		},
		{
			name: "decimal comma", body: "m 1,5\n",
			want: `line 1: metric "m": invalid value "1,5": use a decimal point`,
		},
		{
			name: "separators of thousands", body: "m 1,234,567\n",
			want: `line 1: metric "m": invalid value "1,234,567": write the digits without separators`,
		},
		{
			name: "underscore in a number", body: "m 1_000\n",
			want: `line 1: metric "m": invalid value "1_000": write the digits without separators`,
		},
		{
			name: "hexadecimal", body: "m 0x10\n",
			want: `line 1: metric "m": invalid value "0x10": write the number in decimal`,
		},
		{
			name: "out of range", body: "m 1e999\n",
			want: `line 1: metric "m": invalid value "1e999": the number is out of the range of a 64-bit float`,
		},
		{
			name: "unit", body: "size 12M\n",
			want: `line 1: metric "size": invalid value "12M": write the number without a unit, in base units such as bytes and seconds`,
		},
		{
			name: "percentage", body: "load 12%\n",
			want: `line 1: metric "load": invalid value "12%": write the number without a unit, in base units such as bytes and seconds`,
		},
		{
			name: "unit after a blank", body: "size 12 MB\n",
			want: `line 1: metric "size": invalid text "MB" after the value: end the line after the number`,
		},
		{
			name: "quoted value", body: "m \"1\"\n",
			want: `line 1: metric "m": invalid value "\"1\"": write the number without quotes`,
		},
		{
			name: "word", body: "m one\n",
			want: `line 1: metric "m": invalid value "one": not a number`,
		},
		{
			name: "empty variable", body: "m{a=\"x\"} \n",
			want: `line 1: metric "m": the sample has no value: write a number after the name`,
		},
		{
			name: "message", body: "Warning: device busy\n",
			want: `line 1: the line "Warning: device busy" is not a sample but looks like a message: keep messages, such as what goes to stderr, out of the metrics`,
		},
		{
			name: "message without a colon", body: "m 1\nConnection refused by peer\n",
			want: `line 2: the line "Connection refused by peer" is not a sample but looks like a message: keep messages, such as what goes to stderr, out of the metrics`,
		},
		{
			name: "assignment", body: "a=1\n",
			want: `line 1: invalid sample "a=1": write a space between the name and the value`,
		},
		{
			name: "no-break space", body: "m\u00a01\n",
			want: `line 1: metric "m": no-break space (U+00A0) in "\u00a01": write an ordinary space, or nothing`,
		},
		{
			name: "no-break space before a line", body: "\u00a0m 1\n",
			want: `line 1: no-break space (U+00A0) in "\u00a0m 1": write an ordinary space, or nothing`,
		},
		{
			name: "zero width space after a value", body: "m 1\u200b\n",
			want: `line 1: metric "m": invisible character (U+200B) in "1\u200b": write an ordinary space, or nothing`,
		},
		{
			name: "typographic minus", body: "m \u22125\n",
			want: `line 1: metric "m": typographic minus (U+2212) in "−5": write -`,
		},
		{
			name: "text after a timestamp", body: "m 1 2 3\n",
			want: `line 1: metric "m": invalid timestamp "3": samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead`,
		},
		{
			name: "float timestamp", body: "m 1 1700000000.5\n",
			want: `line 1: metric "m": invalid timestamp "1700000000.5": samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead`,
		},
		{
			name: "timestamp", body: "a 1\nb 1 1700000000000\n",
			want: `line 2: metric "b": invalid timestamp "1700000000000": samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead`,
		},
		{
			name: "exemplar", body: "m_bucket{le=\"1\"} 3 # {trace_id=\"x\"} 0.5\n",
			want: `line 1: metric "m_bucket": the text "# {trace_id=\"x\"} 0.5" follows the value: exemplars need the header Content-Type: application/openmetrics-text, and comments need lines of their own`,
		},
		{
			name: "comment after a value", body: "m 1 # since yesterday\n",
			want: `line 1: metric "m": the text "# since yesterday" follows the value: comments need lines of their own`,
		},
		{
			name: "NUL bytes at the end", body: "a 1\nb 1\n\x00\x00\x00\x00",
			want: "line 3: the line contains NUL bytes, as a crash leaves them: write it again",
		},
		{
			name: "terminal escape", body: "m \x1b[31mred\x1b[0m\n",
			want: `line 1: metric "m": invalid value "\x1b[31mred\x1b[0m": not a number`,
		},
		{
			name: "long value", body: "m " + strings.Repeat("9x", 100) + "\n",
			want: `line 1: metric "m": invalid value "9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x9x"…: not a number`,
		},
		{
			name: "unescaped quote", body: "dev_info{model=\"Acme 2.5\" HDD\",x=\"y\"} 1\n",
			want: `line 1: metric "dev_info": invalid text "HDD" after the value of label "model": write a quote within a value as \", and a comma between labels`,
		},
		{
			name: "no comma between labels", body: "m{a=\"1\" b=\"2\"} 1\n",
			want: `line 1: metric "m": invalid text "b" after the value of label "a": write a quote within a value as \", and a comma between labels`,
		},
		{
			name: "text after a label", body: "m{a=\"1\"; x} 1\n",
			want: `line 1: metric "m": invalid text ";" after the value of label "a": write a comma or a closing brace`,
		},
		{
			name: "value without quotes", body: "m{a=b} 1\n",
			want: `line 1: metric "m": the value "b" of label "a" is not in quotes: write it in double quotes`,
		},
		{
			name: "typographic quotes", body: "m{a=\u201cb\u201d} 1\n",
			want: `line 1: metric "m": the value "“b”" of label "a" is not in quotes: write it in double quotes`,
		},
		{
			name: "dash in a label name", body: "m{a-b=\"x\"} 1\n",
			want: `line 1: metric "m": invalid label name "a-b": use letters, digits and underscores, and no digit first`,
		},
		{
			name: "blank in a label name", body: "m{a b=\"x\"} 1\n",
			want: `line 1: metric "m": invalid text "b" after label name "a": write labels as name="value"`,
		},
		{
			name: "digit before a label name", body: "m{5=\"x\"} 1\n",
			want: `line 1: metric "m": invalid label name "5": use letters, digits and underscores, and no digit first`,
		},
		{
			name: "label twice", body: "m{a=\"x\",a=\"y\"} 1\n",
			want: `line 1: metric "m": label "a" is given twice`,
		},
		{
			name: "label without value", body: "m{a} 1\n",
			want: `line 1: metric "m": the sample has a second metric name "a"`,
		},
		{
			name: "label name in quotes", body: "m{\"a.b\"=\"x\"} 1\n",
			want: `line 1: metric "m": invalid label name "a.b": use letters, digits and underscores, and no digit first`,
		},
		{
			name: "reserved label", body: "m{__name__=\"x\"} 1\n",
			want: `line 1: metric "m": label name "__name__" begins with two underscores, which is reserved: use another name`,
		},
		{
			name: "backslash", body: "m{path=\"C:\\x\"} 1\n",
			want: `line 1: metric "m": invalid escape "\\x" in the value of label "path": only \\, \n and \" are known; write a backslash as \\`,
		},
		{
			name: "quotes not closed", body: "m{a=\"x} 1\n",
			want: `line 1: metric "m": the quotes around the value of label "a" are not closed: end it with a quote on the same line`,
		},
		{
			name: "braces not closed", body: "m{a=\"x\"\n",
			want: `line 1: metric "m": the braces are not closed: end the labels with }`,
		},
		{
			name: "label too long", body: "m{a=\"" + strings.Repeat("x", 101) + "\"} 1\n",
			want: `line 1: metric "m": the value of label "a" is longer than --push.max-label-value-bytes=100 bytes: shorten it, or raise the limit`,
		},
		{
			name: "label name too long", body: "m{" + strings.Repeat("n", 31) + "=\"x\"} 1\n",
			want: `line 1: metric "m": label name "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" is longer than --push.max-label-name-bytes=30 bytes: shorten it, or raise the limit`,
		},
		{
			name: "too many labels", body: "m{a=\"\",b=\"\",c=\"\",d=\"\",e=\"\",f=\"\",g=\"\"} 1\n",
			want: `line 1: metric "m": the sample has more than --push.max-labels=6 labels: use fewer, or raise the limit`,
		},
		{
			name: "second HELP", body: "# HELP cache_hits x\n# TYPE cache_hits gauge\ncache_hits 1\n# HELP cache_hits y\n",
			want: `line 4: family "cache_hits": second HELP line: write one for each family`,
		},
		{
			name: "second TYPE", body: "# TYPE m gauge\nm 1\n# TYPE m counter\n",
			want: `line 3: family "m": second TYPE line: the type is gauge already; write one for each family`,
		},
		{
			name: "TYPE after samples", body: "m 1\n# TYPE m gauge\n",
			want: `line 2: family "m": the TYPE line comes after samples of its family: write it before them`,
		},
		{
			name: "OpenMetrics type", body: "# TYPE demo_build info\n",
			want: `line 1: family "demo_build": invalid type "info": only OpenMetrics has it; use gauge`,
		},
		{
			name: "unknown type", body: "# TYPE m gage\n",
			want: `line 1: family "m": invalid type "gage": use counter, gauge, histogram, summary or untyped`,
		},
		{
			name: "gauge histogram", body: "# TYPE m gaugehistogram\nm_bucket{le=\"1\"} 1\nm_gsum 1\n",
			want: `line 2: family "m": m_bucket{job="j",le="1"} has no bucket with le="+Inf": each metric of a gaugehistogram must have one`,
		},
		{
			name: "value of OpenMetrics 2.0", body: "# TYPE m histogram\nm {count:1,sum:2,bucket:[+Inf:1]}\n",
			want: `line 2: metric "m": invalid value "{count:1,sum:2,bucket:[+Inf:1]}": values in braces are of OpenMetrics 2.0; push OpenMetrics 1.0 or protobuf`,
		},
		{
			name: "value of OpenMetrics 2.0 after labels", body: "# TYPE m gaugehistogram\nm{a=\"b\"} {gcount:1,gsum:2,bucket:[+Inf:1]}\n",
			want: `line 2: metric "m": invalid value "{gcount:1,gsum:2,bucket:[+Inf:1]}": values in braces are of OpenMetrics 2.0; push OpenMetrics 1.0 or protobuf`,
		},
		{
			name: "name in a TYPE line", body: "# TYPE a-b gauge\n",
			want: `line 1: invalid metric name "a-b" in the TYPE line: use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "backslash in HELP", body: "# HELP m a \\d+\n",
			want: `line 1: family "m": invalid escape "\\d" in the HELP text: only \\, \n and \" are known; write a backslash as \\`,
		},
		{
			name: "bucket without le", body: "# TYPE h histogram\nh_bucket 1\n",
			want: `line 2: metric "h_bucket": the sample of a histogram has no label le: give it one that is a number`,
		},
		{
			name: "le that is not a number", body: "# TYPE h histogram\nh_bucket{le=\"x\"} 1\n",
			want: `line 2: metric "h_bucket": invalid value "x" of label le of a histogram: it must be a number`,
		},
		{
			name: "histogram without parts", body: "# TYPE h histogram\nh 1\n",
			want: `line 2: metric "h": the sample is not part of the histogram "h": its samples end in _bucket, _sum and _count`,
		},
		{
			name: "negative bucket", body: "# TYPE h histogram\nh_bucket{le=\"1\"} -1\n",
			want: `line 2: metric "h_bucket": invalid value "-1" of a bucket or count of a histogram: counts must be zero or more, and finite`,
		},
		{
			name: "series twice", body: "m{a=\"x\"} 1\nm{a=\"x\"} 2\n",
			want: `line 2: duplicate series m{a="x",job="j"}: it is in line 1 already, and may occur once`,
		},
		{
			name: "name of a part", body: "# TYPE h histogram\nh_sum 1\nh_count 1\nh_bucket{le=\"1\"} 1\n# TYPE h_sum gauge\nh_sum 1\n",
			want: `line 6: family "h_sum": the name is that of a part of the histogram "h": rename one of them`,
		},
		{
			name: "type of another file", body: "# TYPE jobs gauge\njobs 1\n",
			want: `family "jobs" has another type in "job=other.prom": its type is counter there and gauge in "job=j.prom"; use one type`,
		},
		{
			name: "part of a histogram of another file", body: "lat_sum 1\n",
			want: `family "lat_sum" collides with one in "job=other.prom", as one has the name of a part of the other: rename one of them`,
		},
		{
			name: "series of another file", body: "dropped 1\n",
			want: `series dropped{job="j"} of family "dropped" is already in "dropped.prom": give it a label with another value, or delete one of the two`,
		},
		{
			name: "reserved name", body: "promspool_files 1\n",
			want: `family "promspool_files" belongs to the agent: names that begin with promspool_ are reserved, except for promspool_job_; use another name`,
		},
		{
			name: "name of the agent with another type", body: "# TYPE process_cpu_seconds_total gauge\nprocess_cpu_seconds_total 1\n",
			want: `family "process_cpu_seconds_total" belongs to the agent, which serves it as a counter: it is a gauge in "job=j.prom"; use the type counter`,
		},
		{
			name: "name of a summary of the agent", body: "go_gc_duration_seconds 1\n",
			want: `family "go_gc_duration_seconds" belongs to the agent, or has the name of a part of a histogram or summary of its own: use another name`,
		},
		{
			name: "part of a summary of the agent", body: "go_gc_duration_seconds_sum 1\n",
			want: `family "go_gc_duration_seconds_sum" belongs to the agent, or has the name of a part of a histogram or summary of its own: use another name`,
		},
		{
			name: "several faults", body: "a 1,5\nb 2\nc-d 3\n# TYPE b x\n",
			want: `line 1: metric "a": invalid value "1,5": use a decimal point; line 3: invalid metric name "c-d": use letters, digits, underscores and colons, and no digit first; line 4: family "b": invalid type "x": use counter, gauge, histogram, summary or untyped`,
		},
		{
			name: "more than five", body: "a x\nb x\nc x\nd x\ne x\nf x\n",
			want: `line 1: metric "a": invalid value "x": not a number; line 2: metric "b": invalid value "x": not a number; line 3: metric "c": invalid value "x": not a number; line 4: metric "d": invalid value "x": not a number; line 5: metric "e": invalid value "x": not a number; further faults are not listed`,
		},
		{
			name: "several series twice", body: "a 1\na 2\nb 1\nb 2\n",
			want: `line 2: duplicate series a{job="j"}: it is in line 1 already, and may occur once; line 4: duplicate series b{job="j"}: it is in line 3 already, and may occur once`,
		},
		{
			name: "several conflicts", body: "# TYPE jobs gauge\njobs 1\n# TYPE lat gauge\nlat 1\n",
			want: `family "jobs" has another type in "job=other.prom": its type is counter there and gauge in "job=j.prom"; use one type; family "lat" has another type in "job=other.prom": its type is histogram there and gauge in "job=j.prom"; use one type`,
		},
		{
			name: "too many samples", body: strings.Repeat("m 1\n", 21),
			want: `line 21: metric "m": more than --push.max-series=20 samples: push fewer at a time, or raise the limit`,
		},
		{
			name: "no newline", body: "a 1",
			want: `line 1: the last line does not end in a newline, so the text "a 1" may be cut off: end it with a newline`,
		},
		{
			name: "no newline, from curl", body: "a 1", header: []string{"User-Agent", "curl/8.5.0"},
			want: `line 1: the last line does not end in a newline, so the text "a 1" may be cut off: end it with a newline (with curl use --data-binary: -d removes the newlines)`,
		},
		{
			name: "carriage returns alone", body: "a 1\rb 2\r",
			want: "line 1: not in the text format, but text with lines that end in a carriage return alone: end each line with a newline",
		},
		{
			name: "form", body: "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\na 1\n\r\n--b--\r\n",
			want: "line 1: not in the text format, but a form with a file (multipart/form-data): send the text itself as the body",
		},
		{
			name: "form, from curl", body: "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\na 1\n\r\n--b--\r\n", header: []string{"Content-Type", "multipart/form-data; boundary=b", "User-Agent", "curl/8.5.0"},
			want: "the body is a form (multipart/form-data), not the text format: send the text itself as the body (with curl use --data-binary @FILE instead of -F)",
		},
		{
			name: "URL-encoded", body: "a%201%0A", header: []string{"Content-Type", "application/x-www-form-urlencoded"},
			want: `the body "a%201%0A" is URL-encoded, not the text format: send the text as it is`,
		},
		{
			name: "JSON", body: "{\"a\": 1}\n",
			want: `line 1: not in the text format, but JSON: write each sample as a line such as name{label="value"} 1`,
		},
		{
			name: "HTML", body: "<!DOCTYPE html>\n<html>\n",
			want: "line 1: not in the text format, but HTML or XML: use the metrics themselves, not a page",
		},
		{
			name: "gzip without its header", body: "\x1f\x8b\x08\x00",
			want: "line 1: not in the text format, but gzip data: set the header Content-Encoding, or send the text itself",
		},
		{
			name: "gzip without its header, from curl", body: "\x1f\x8b\x08\x00", header: []string{"User-Agent", "curl/8.5.0"},
			want: "line 1: not in the text format, but gzip data: set the header Content-Encoding, or send the text itself (with curl add -H 'Content-Encoding: gzip')",
		},
		{
			name: "UTF-16", body: "\xff\xfea\x00 \x001\x00\n\x00",
			want: "line 1: not in the text format, but UTF-16 text: send UTF-8 text",
		},
		{
			name: "UTF-16 without a mark", body: "a\x00 \x001\x00\n\x00",
			want: "line 1: not in the text format, but UTF-16 text: send UTF-8 text",
		},
		{
			name: "UTF-16 big-endian without a mark", body: "\x00a\x00 \x001\x00\n",
			want: "line 1: not in the text format, but UTF-16 text: send UTF-8 text",
		},
		{
			name: "UTF-32", body: "\xff\xfe\x00\x00a\x00\x00\x00",
			want: "line 1: not in the text format, but UTF-32 text: send UTF-8 text",
		},
		{
			name: "UTF-32 without a mark", body: "a\x00\x00\x00 \x00\x00\x00",
			want: "line 1: not in the text format, but UTF-32 text: send UTF-8 text",
		},
		{
			name: "Latin-1", body: "# HELP m x\nm{a=\"gr\xfcn\"} 1\n",
			want: `line 2: the line "m{a=\"gr\xfcn\"} 1" is not UTF-8 text: byte 8 is of another character set; convert it`,
		},
		{
			name: "NUL bytes", body: "\x00\x00\x00\x00\x00\x00",
			want: "line 1: not in the text format, but NUL bytes, as a crash leaves them: write it again",
		},
		{
			name: "NUL bytes after a crash", body: "a 1\nb\x00\x00\x00\x00\n",
			want: "line 2: the line contains NUL bytes, as a crash leaves them: write it again",
		},
		{
			name: "encoding that is not supported", body: "\x0b\x01\x80a 1\n\x03", header: []string{"Content-Encoding", "br"},
			want: `the Content-Encoding "br" is not supported: use gzip, snappy or zstd, or send the body as it is`,
		},
		{
			name: "plain text as gzip", body: "a 1\n", header: []string{"Content-Encoding", "gzip"},
			want: "the body is not valid gzip data but plain text: leave out the header Content-Encoding",
		},
		{
			name: "snappy without frames", body: string(s2.EncodeSnappy(nil, []byte("a 1\n\x01"))), header: []string{"Content-Encoding", "snappy"},
			want: "the body is snappy without frames, as remote write uses it: use the framed format, gzip or zstd",
		},
		{
			name: "remote write", body: string(s2.EncodeSnappy(nil, []byte("\n\x01"))), header: []string{"Content-Encoding", "snappy", "Content-Type", "application/x-protobuf"},
			want: "the body is a remote-write request, not a push: send it to a server that accepts remote write, or push the text format",
		},
		{
			name: "OTLP", body: "\n\x01", header: []string{"Content-Type", "application/x-protobuf"},
			want: `the Content-Type "application/x-protobuf" is that of remote write and OTLP, not of a push: push the text format`,
		},
		{
			name: "body too large", body: strings.Repeat("#\n", 1<<19+1),
			want: "the body is larger than 1048576 bytes, the limit of --push.max-bytes: push less at a time, or raise the limit",
		},
		{
			name: "protobuf without its header", body: string(delimited(t, gaugeFamily("a", 1))),
			want: "line 1: not in the text format, but protobuf: set the header Content-Type: application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
		},
		{
			name: "protobuf without encoding=delimited", body: string(delimited(t, gaugeFamily("a", 1))), header: []string{"Content-Type", "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily"},
			want: `the Content-Type "application/vnd.google.protobuf; proto=io.prometheus.client.Metr"… is not that of a push in protobuf: use application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited`,
		},
		{
			name: "text as protobuf", body: "a 1\n", header: []string{"Content-Type", protobufType},
			want: "the body is not a sequence of protobuf messages with their lengths: message 1 is cut off or garbage; the body is plain text: leave out the header Content-Type",
		},
		{
			name: "protobuf cut off", body: string(delimited(t, gaugeFamily("a", 1), gaugeFamily("b", 1))[:20]), header: []string{"Content-Type", protobufType},
			want: `the body is not a sequence of protobuf messages with their lengths: message 2, after family "a", is cut off or garbage`,
		},
		{
			name: "protobuf without length", body: string(delimited(t, gaugeFamily("abc", 1))[1:]), header: []string{"Content-Type", protobufType},
			want: "message 1 of the body is not a metric family: not protobuf; the body is one message without its length: write the length before it",
		},
		{
			name: "protobuf name", body: string(delimited(t, gaugeFamily("db.rows", 1))), header: []string{"Content-Type", protobufType},
			want: `invalid metric name "db.rows": use letters, digits, underscores and colons, and no digit first`,
		},
		{
			name: "protobuf label name", body: string(delimited(t, gaugeFamily("db_rows", 1, "a.b", "x"))), header: []string{"Content-Type", protobufType},
			want: `family "db_rows": invalid label name "a.b": use letters, digits and underscores, and no digit first`,
		},
		{
			name: "protobuf reserved label", body: string(delimited(t, gaugeFamily("db_rows", 1, "__a", "x"))), header: []string{"Content-Type", protobufType},
			want: `family "db_rows": label name "__a" begins with two underscores, which is reserved: use another name`,
		},
		{
			name: "protobuf label twice", body: string(delimited(t, gaugeFamily("db_rows", 1, "a", "x", "a", "y"))), header: []string{"Content-Type", protobufType},
			want: `family "db_rows": label "a" is given twice`,
		},
		{
			name: "protobuf series twice", body: string(delimited(t, &dto.MetricFamily{Name: proto.String("c"), Type: dto.MetricType_GAUGE.Enum(), Metric: append(gaugeFamily("c", 1).Metric, gaugeFamily("c", 2).Metric...)})), header: []string{"Content-Type", protobufType},
			want: `duplicate series c{job="j"}: each may occur once`,
		},
		{
			name: "protobuf value of another type", body: string(delimited(t, &dto.MetricFamily{Name: proto.String("c"), Type: dto.MetricType_COUNTER.Enum(), Metric: gaugeFamily("c", 1).Metric})), header: []string{"Content-Type", protobufType},
			want: `family "c": a metric has no value of the type counter: set the one of that type`,
		},
		{
			name: "protobuf timestamp", body: string(delimited(t, &dto.MetricFamily{Name: proto.String("c"), Type: dto.MetricType_GAUGE.Enum(), Metric: []*dto.Metric{{Gauge: &dto.Gauge{}, TimestampMs: proto.Int64(1)}}})), header: []string{"Content-Type", protobufType},
			want: `family "c": invalid timestamp "1": samples must not have timestamps: Prometheus uses the time of the scrape; push the time as a value of its own instead`,
		},
		{
			name: "protobuf, several faults", body: string(delimited(t, gaugeFamily("a.b", 1), gaugeFamily("c", 1, "__x", "1"))), header: []string{"Content-Type", protobufType},
			want: `invalid metric name "a.b": use letters, digits, underscores and colons, and no digit first; family "c": label name "__x" begins with two underscores, which is reserved: use another name`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := a.do("PUT", "/metrics/job/j", strings.NewReader(test.body), test.header...)
			if want := test.want + "\n"; got.body != want {
				t.Errorf("%q is answered with %d\n%swant\n%s", test.body, got.code, got.body, want)
			}
			if got.code != 400 && got.code != 413 {
				t.Errorf("the answer is %d, want 400 or 413", got.code)
			}
		})
	}
}
