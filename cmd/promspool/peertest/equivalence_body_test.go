package peertest

import "testing"

func TestEquivalenceOfBodies(t *testing.T) {
	const (
		body    = "# TYPE m gauge\nm{x=\"1\"} 1\n"
		samples = `m{job="j",x="1"} 1`
		family  = `name: "m" type: GAUGE metric { label { name: "x" value: "1" } gauge { value: 1 } }`
	)
	one := delimited(family)
	typed := func(contentType string) []request {
		return []request{put("/metrics/job/j", body, 200).with("Content-Type", contentType)}
	}
	protobuf := func(contentType string) []request {
		return []request{put("/metrics/job/j", one, 200).with("Content-Type", contentType)}
	}
	encoded := func(encoding, body string, code int) request {
		return post("/metrics/job/j", body, code).with("Content-Encoding", encoding)
	}
	holds(t, []exchange{
		{name: "what curl says", send: typed("application/x-www-form-urlencoded"), serves: samples},
		{name: "what the libraries say of text", send: typed("text/plain; version=0.0.4; charset=utf-8"), serves: samples},
		{name: "another version of text", send: typed("text/plain; version=1.0.0"), serves: samples},
		{name: "OpenMetrics, which is read as text", send: typed("application/openmetrics-text; version=1.0.0"), serves: samples},
		{name: "JSON, which is read as text", send: typed("application/json"), serves: samples},
		{name: "a form, which is read as text", send: typed("multipart/form-data; boundary=x"), serves: samples},
		{name: "a content type that is none", send: typed("; nonsense;;"), serves: samples},
		{name: "protobuf of another message, which is read as text", send: typed("application/vnd.google.protobuf; proto=other; encoding=delimited"), serves: samples},
		{name: "protobuf without an encoding, which is read as text", send: typed("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily"), serves: samples},
		{name: "protobuf in text, which is read as text", send: typed("application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=text"), serves: samples},
		{name: "protobuf in words, which is read as text", send: typed("application/x-protobuf"), serves: samples},
		{name: "protobuf", send: protobuf(delimitedType), serves: samples},
		{name: "protobuf with other parameters as well", send: protobuf(delimitedType + "; escaping=underscores; q=1"), serves: samples},
		{name: "protobuf in another order and in quotes", send: protobuf(`application/vnd.google.protobuf;encoding="delimited" ; proto="io.prometheus.client.MetricFamily"`), serves: samples},
		{name: "protobuf in capitals", send: protobuf("Application/VND.Google.Protobuf; PROTO=io.prometheus.client.MetricFamily; Encoding=delimited"), serves: samples},
		{
			name: "text that says it is protobuf, and the reverse",
			send: []request{put("/metrics/job/j", body, 400).with("Content-Type", delimitedType), put("/metrics/job/j", one, 400), put("/metrics/job/j", one, 400).with("Content-Type", "application/vnd.google.protobuf")},
		},
		{
			name:   "protobuf that is cut in a message",
			send:   []request{put("/metrics/job/j", one[:len(one)-1], 400).with("Content-Type", delimitedType), put("/metrics/job/j", one+one[:5], 400).with("Content-Type", delimitedType)},
			serves: nothing,
		},
		{
			name:    "protobuf that is cut in the length of a message",
			send:    []request{put("/metrics/job/j", one[:1], 200).with("Content-Type", delimitedType).but(400), put("/metrics/job/j", one+"\xff", 200).with("Content-Type", delimitedType).but(400)},
			serves:  nothing,
			differs: "later versions of Pushgateway refuse it as well",
		},
		{
			name:   "empty protobuf",
			send:   []request{putProto("/metrics/job/j", 200, family), postProto("/metrics/job/j", 200), putProto("/metrics/job/k", 200)},
			serves: samples,
		},
		{
			name:   "gzip",
			send:   []request{encoded("gzip", gzipped(body), 200)},
			serves: samples,
		},
		{
			name:    "gzip in capitals",
			send:    []request{encoded("GZIP", gzipped(body), 400).but(200)},
			serves:  samples,
			differs: "later versions of Pushgateway take it as well",
		},
		{
			name:   "gzip in two members",
			send:   []request{encoded("gzip", gzipped("a 1\nb")+gzipped(" 2\n"), 200)},
			serves: "a{job=\"j\"} 1\nb{job=\"j\"} 2",
		},
		{
			name:   "gzip of nothing",
			send:   []request{encoded("gzip", gzipped(""), 200)},
			serves: nothing,
		},
		{
			name:   "gzip of protobuf",
			send:   []request{encoded("gzip", gzipped(one), 200).with("Content-Type", delimitedType)},
			serves: samples,
		},
		{
			name:   "gzip that is none, cut in the middle, or nothing at all",
			send:   []request{encoded("gzip", body, 400), encoded("gzip", gzipped(body)[:20], 400), encoded("gzip", "", 400)},
			serves: nothing,
		},
		{
			name: "gzip with a wrong sum, cut in the sum, or with more behind it",
			send: []request{
				encoded("gzip", gzipped(body)[:len(gzipped(body))-8]+"\x00\x00\x00\x00\x00\x00\x00\x00", 200).but(400),
				encoded("gzip", gzipped(body)[:len(gzipped(body))-1], 200).but(400), encoded("gzip", gzipped(body)+"rest", 200).but(400),
			},
			serves:  nothing,
			differs: "the body arrives damaged",
		},
		{
			name:   "gzip without Content-Encoding",
			send:   []request{post("/metrics/job/j", gzipped(body), 400)},
			serves: nothing,
		},
		{
			name:   "encodings that there are none",
			send:   []request{encoded("identity", body, 200), encoded("utf-8", "n 1\n", 200)},
			serves: samples + "\nn{job=\"j\"} 1",
		},
		{
			name:   "encodings that are not known",
			send:   []request{encoded("deflate", "\x78\x9c\x03\x00", 400), encoded("br", "\x0b\x01\x80", 400)},
			serves: nothing,
		},
		{
			name:    "snappy",
			send:    []request{encoded("snappy", snappied(body), 400).but(200), encoded("Snappy", snappied("n 1\n"), 400).but(200)},
			serves:  samples + "\nn{job=\"j\"} 1",
			differs: "it came with Pushgateway 1.6",
		},
		{
			name:   "snappy that is none",
			send:   []request{encoded("snappy", gzipped(body), 400), encoded("snappy", "\xff\x06\x00\x00sNaPpYx", 400)},
			serves: nothing,
		},
	})
}

func TestEquivalenceOfProtobuf(t *testing.T) {
	holds(t, []exchange{
		{
			name: "all types",
			send: []request{putProto("/metrics/job/j", 200,
				`name: "c_total" help: "C." type: COUNTER metric { counter { value: 1 } } metric { label { name: "x" value: "é\n\"" } counter { value: 2.5 } }`,
				`name: "g" help: "G \\ and\nnew." type: GAUGE metric { gauge { value: -1 } }`,
				`name: "u" type: UNTYPED metric { untyped { value: nan } }`,
				`name: "h" type: HISTOGRAM metric { histogram { sample_count: 3 sample_sum: 1.5 bucket { upper_bound: 0.5 cumulative_count: 1 } bucket { upper_bound: 1e6 cumulative_count: 2 } bucket { upper_bound: inf cumulative_count: 3 } } }`,
				`name: "s" type: SUMMARY metric { summary { sample_count: 3 sample_sum: 1.5 quantile { quantile: 0.5 value: 1 } quantile { quantile: 0.99 value: nan } } }`)},
		}, {
			name:   "last of two messages of one name counts",
			send:   []request{putProto("/metrics/job/j", 200, `name: "m" type: GAUGE metric { gauge { value: 1 } } metric { label { name: "x" value: "1" } gauge { value: 1 } }`, `name: "n" type: GAUGE metric { gauge { value: 1 } }`, `name: "m" type: COUNTER metric { counter { value: 2 } }`)},
			serves: "m{job=\"j\"} 2\nn{job=\"j\"} 1",
		}, {
			name: "numbers, label values and types that are missing",
			send: []request{putProto("/metrics/job/j", 200, `name: "c" metric { counter { } }`, `name: "g" type: GAUGE metric { label { name: "x" } gauge { } }`)},
		}, {
			name: "summary and histogram of nothing",
			send: []request{putProto("/metrics/job/j", 200, `name: "s" type: SUMMARY metric { summary { } }`, `name: "g" type: GAUGE metric { gauge { } }`)},
		}, {
			name: "value of another type than the family",
			send: []request{
				putProto("/metrics/job/a", 400, `name: "m" type: GAUGE metric { counter { value: 1 } }`), putProto("/metrics/job/b", 400, `name: "m" metric { gauge { value: 1 } }`),
				putProto("/metrics/job/c", 400, `name: "m" type: HISTOGRAM metric { summary { } }`), putProto("/metrics/job/d", 400, `name: "m" type: SUMMARY metric { }`),
			},
			serves: nothing,
		}, {
			name:   "timestamps, even of zero",
			send:   []request{putProto("/metrics/job/a", 400, `name: "m" type: GAUGE metric { gauge { value: 1 } timestamp_ms: 1 }`), putProto("/metrics/job/b", 400, `name: "m" type: GAUGE metric { gauge { value: 1 } timestamp_ms: 0 }`)},
			serves: nothing,
		}, {
			name:   "created timestamps, exemplars and units are not in text",
			send:   []request{putProto("/metrics/job/j", 200, `name: "c" type: COUNTER unit: "s" metric { counter { value: 1 created_timestamp { seconds: 1 } exemplar { value: 1 label { name: "id" value: "x" } } } }`)},
			serves: `c{job="j"} 1`,
		}, {
			name:   "bucket of all is missing",
			send:   []request{putProto("/metrics/job/j", 200, `name: "h" type: HISTOGRAM metric { histogram { sample_count: 3 sample_sum: 1.5 bucket { upper_bound: 0.5 cumulative_count: 1 } } }`)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 3\nh_bucket{job=\"j\",le=\"0.5\"} 1\nh_count{job=\"j\"} 3\nh_sum{job=\"j\"} 1.5",
		}, {
			name:    "histogram with native and classic buckets",
			send:    []request{putProto("/metrics/job/j", 200, `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 sample_sum: 1 bucket { upper_bound: inf cumulative_count: 1 } schema: 3 zero_threshold: 1e-100 positive_span { offset: 0 length: 1 } positive_delta: 1 } }`)},
			serves:  "h_bucket{job=\"j\",le=\"+Inf\"} 1\nh_count{job=\"j\"} 1\nh_sum{job=\"j\"} 1",
			differs: "the API has the native buckets, in the shape of newer Pushgateways",
		}, {
			name:    "histogram with native buckets alone",
			send:    []request{putProto("/metrics/job/j", 200, `name: "h" type: HISTOGRAM metric { histogram { sample_count: 1 sample_sum: 1 schema: 3 zero_threshold: 1e-100 positive_span { offset: 0 length: 1 } positive_delta: 1 } }`)},
			serves:  "h_bucket{job=\"j\",le=\"+Inf\"} 1\nh_count{job=\"j\"} 1\nh_sum{job=\"j\"} 1",
			differs: "the API has the native buckets, in the shape of newer Pushgateways",
		}, {
			name: "labels that are none",
			send: []request{
				putProto("/metrics/job/a", 400, `name: "m" type: GAUGE metric { label { name: "" value: "1" } gauge { } }`), putProto("/metrics/job/b", 400, `name: "m" type: GAUGE metric { label { name: "__x" value: "1" } gauge { } }`),
				putProto("/metrics/job/c", 400, `name: "m" type: GAUGE metric { label { name: "x" value: "1" } label { name: "x" value: "2" } gauge { } }`),
			},
			serves: nothing,
		}, {
			name:   "summary with a label quantile",
			send:   []request{putProto("/metrics/job/j", 400, `name: "s" type: SUMMARY metric { label { name: "quantile" value: "0.5" } summary { } }`)},
			serves: nothing,
		}, {
			name:   "series twice",
			send:   []request{putProto("/metrics/job/j", 400, `name: "m" type: GAUGE metric { gauge { value: 1 } } metric { gauge { value: 2 } }`), postProto("/metrics/job/j", 400, `name: "m" type: GAUGE metric { label { name: "job" value: "a" } gauge { } } metric { label { name: "job" value: "b" } gauge { } }`)},
			serves: nothing,
		}, {
			name:    "family without samples",
			send:    []request{putProto("/metrics/job/j", 200, `name: "m" type: GAUGE metric { gauge { value: 1 } }`), postProto("/metrics/job/j", 200, `name: "m" type: GAUGE`)},
			serves:  nothing,
			differs: "the JSON API does not have it, since it is not in the file",
		}, {
			name:   "text and protobuf in one group",
			send:   []request{put("/metrics/job/j", "# TYPE a gauge\na 1\n# TYPE b counter\nb 1\n", 200), postProto("/metrics/job/j", 200, `name: "a" type: GAUGE metric { gauge { value: 2 } }`), putProto("/metrics/job/k", 400, `name: "b" type: GAUGE metric { gauge { value: 2 } }`)},
			serves: "a{job=\"j\"} 2\nb{job=\"j\"} 1",
		}, {
			name:   "labels of the path overrule those of the body",
			send:   []request{putProto("/metrics/job/j/x/path", 200, `name: "m" type: GAUGE metric { label { name: "x" value: "body" } label { name: "job" value: "body" } label { name: "instance" value: "i" } gauge { value: 1 } }`)},
			serves: `m{instance="i",job="j",x="path"} 1`,
		},
	})
}

func TestEquivalenceOfTheAPI(t *testing.T) {
	const floats = "{x=\"a\"} NaN\nm{x=\"b\"} +Inf\nm{x=\"c\"} -Inf\nm{x=\"d\"} 1e6\nm{x=\"e\"} 0.1\nm{x=\"f\"} 1e-7\nm{x=\"g\"} 123456789\nm{x=\"h\"} -0\nm{x=\"i\"} 1e21\n"
	holds(t, []exchange{
		{name: "counter", send: []request{put("/metrics/job/j/path@base64/L3g", "# HELP m M.\n# TYPE m counter\nm"+floats, 200)}},
		{name: "gauge", send: []request{put("/metrics/job/j/instance/i", "# TYPE m gauge\nm"+floats, 200)}},
		{name: "untyped", send: []request{put("/metrics/job/j", "m"+floats, 200)}},
		{
			name:    "empty instance in the path",
			send:    []request{put("/metrics/job/j/instance@base64/=", "m 1\n", 200)},
			serves:  `m{job="j"} 1`,
			differs: "the group is called {job=\"j\"}: a label with an empty value is the same as none",
		},
		{
			name: "histogram",
			send: []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"1e6\"} 1e6\nh_bucket{le=\"+Inf\"} 123456789\nh_sum NaN\nh_count 123456789\nh_bucket{x=\"1\",le=\"+Inf\"} 0\nh_sum{x=\"1\"} -Inf\nh_count{x=\"1\"} 0\n", 200)},
		},
		{
			name: "summary",
			send: []request{put("/metrics/job/j", "# TYPE s summary\ns{quantile=\"0\"} NaN\ns{quantile=\"0.999\"} +Inf\ns{quantile=\"1\"} 1e6\ns_sum 1e21\ns_count 1234567\ns_sum{x=\"1\"} 1\ns_count{x=\"1\"} 1\n", 200)},
		},
		{
			name: "text that HTML has signs for, and HELP",
			send: []request{put("/metrics/job/%3Cb%3E&amp;", "# HELP m <b> & \\\\ \\n é.\nm{x=\"<>&'\\\"\\\\\\n\u2028\"} 1\n", 200)},
		},
		{
			name: "groups that succeeded, failed, and did both",
			send: []request{put("/metrics/job/a", "m 1\n", 200), put("/metrics/job/b", "m 1 1000\n", 400), put("/metrics/job/c", "m 1\n", 200), put("/metrics/job/c", "m 1 1000\n", 400), put("/metrics/job/d", "m 1 1000\n", 400), put("/metrics/job/d", "m 1\n", 200)},
		},
		{
			name: "groups with many labels",
			send: []request{put("/metrics/job/j/c/3/b/2/a/1", "m 1\n", 200), put("/metrics/job/j/a/1", "m{z=\"1\",b=\"2\"} 1\n", 200)},
		},
	})
}
