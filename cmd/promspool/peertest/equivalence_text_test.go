package peertest

import "testing"

func TestEquivalenceOfText(t *testing.T) {
	holds(t, []exchange{
		{
			name: "all types in the text format",
			send: []request{put("/metrics/job/j", "# TYPE c counter\nc 1\n# TYPE g gauge\ng 2\n# TYPE u untyped\nu 3\nn 4\n", 200)},
		}, {
			name: "types in capitals",
			send: []request{put("/metrics/job/j", "# TYPE c COUNTER\nc 1\n# TYPE g Gauge\ng 1\n", 200)},
		}, {
			name: "types of other formats",
			send: []request{
				put("/metrics/job/a", "# TYPE m info\nm 1\n", 400), put("/metrics/job/b", "# TYPE m stateset\nm 1\n", 400),
				put("/metrics/job/c", "# TYPE m unknown\nm 1\n", 400), put("/metrics/job/d", "# TYPE m\nm 1\n", 200),
			},
			serves: `m{job="d"} 1`,
		}, {
			name: "TYPE and HELP twice, TYPE after a sample",
			send: []request{
				put("/metrics/job/a", "# TYPE m gauge\n# TYPE m gauge\nm 1\n", 400), put("/metrics/job/b", "# HELP m A.\n# HELP m A.\nm 1\n", 400),
				put("/metrics/job/c", "m 1\n# TYPE m gauge\n", 400),
			},
			serves: nothing,
		}, {
			name: "HELP after samples, HELP of nothing, comments and blank lines",
			send: []request{put("/metrics/job/j", "\n#\n# a comment\n#HELP no 1\nm 1\n\n# HELP m Late.\n  \t\n# EOF\nn 2\n# HELP none There is no sample.\n# TYPE none gauge\n", 200)},
		}, {
			name: "HELP with escapes",
			send: []request{put("/metrics/job/j", "# HELP m A \\\\ and\\na line, and \"quotes\".\nm 1\n# HELP k   With blanks  inside. \nk 1\n# HELP e\ne 1\n", 200)},
		}, {
			name: "HELP with another escape",
			send: []request{put("/metrics/job/j", "# HELP m A \\t tab.\nm 1\n", 400)},
		}, {
			name:   "label values with escapes",
			send:   []request{put("/metrics/job/j", "m{x=\"\\\\ \\\" \\n é {}=,#\"} 1\n", 200), put("/metrics/job/j", "m{x=\"\\t\"} 1\n", 400), put("/metrics/job/j", "m{x=\"a\nb\"} 1\n", 400)},
			serves: `m{job="j",x="\\ \" \n é {}=,#"} 1`,
		}, {
			name:   "blanks where they may be, and a comma at the end",
			send:   []request{put("/metrics/job/j", " \tm { x = \"1\" , y\t=\t\"2\" , } \t 3\nn{} 1\n", 200)},
			serves: "m{job=\"j\",x=\"1\",y=\"2\"} 3\nn{job=\"j\"} 1",
		}, {
			name: "labels that are none",
			send: []request{
				put("/metrics/job/j", "m{,x=\"1\"} 1\n", 400), put("/metrics/job/j", "m{x=\"1\",,y=\"2\"} 1\n", 400), put("/metrics/job/j", "m{x=1} 1\n", 400),
				put("/metrics/job/j", "m{x} 1\n", 400), put("/metrics/job/j", "m{x=\"1\" y=\"2\"} 1\n", 400), put("/metrics/job/j", "m{x=\"1\" 1\n", 400),
				put("/metrics/job/j", "m{a:b=\"1\"} 1\n", 400), put("/metrics/job/j", "m{1=\"1\"} 1\n", 400), put("/metrics/job/j", "m{a.b=\"1\"} 1\n", 400),
			},
			serves: nothing,
		}, {
			name:   "label twice, and label __name__",
			send:   []request{put("/metrics/job/j", "m{x=\"1\",x=\"2\"} 1\n", 400), put("/metrics/job/j", "m{__name__=\"n\"} 1\n", 400)},
			serves: nothing,
		}, {
			name: "values",
			send: []request{put("/metrics/job/j", "a .5\nb 5.\nc +5\nd 1e3\ne NaN\nf inf\ng -Infinity\nh -0\ni 1e-320\nk 0.1\nl 123456789012345678\nm nan\nn +Inf\no 1E6\n", 200)},
		}, {
			name: "values that are none",
			send: []request{
				put("/metrics/job/j", "m one\n", 400), put("/metrics/job/j", "m\n", 400), put("/metrics/job/j", "m 1e999\n", 400), put("/metrics/job/j", "m 1_000\n", 400),
				put("/metrics/job/j", "m 0x10\n", 400), put("/metrics/job/j", "m 0x1p4\n", 400), put("/metrics/job/j", "m 1,5\n", 400), put("/metrics/job/j", "m 1 2 3\n", 400),
			},
			serves: nothing,
		}, {
			name:   "counters that are negative or not a number",
			send:   []request{put("/metrics/job/j", "# TYPE c counter\nc{x=\"1\"} -1\nc{x=\"2\"} NaN\n", 200)},
			serves: "c{job=\"j\",x=\"1\"} -1\nc{job=\"j\",x=\"2\"} NaN",
		}, {
			name: "names that are none",
			send: []request{
				put("/metrics/job/j", "1m 1\n", 400), put("/metrics/job/j", "a-b 1\n", 400), put("/metrics/job/j", "a.b 1\n", 400), put("/metrics/job/j", "é 1\n", 400),
				put("/metrics/job/j", "{} 1\n", 400), put("/metrics/job/j", "{\"a.b\"} 1\n", 400), put("/metrics/job/j", "m{\"a.b\"=\"1\"} 1\n", 400),
			},
			serves: nothing,
		}, {
			name:   "name with colons",
			send:   []request{put("/metrics/job/j", ":a:b 1\n", 200)},
			serves: `:a:b{job="j"} 1`,
		}, {
			name:    "names in quotes",
			send:    []request{put("/metrics/job/j", "{\"a_b\",x=\"1\"} 1\n", 400).but(200)},
			serves:  `a_b{job="j",x="1"} 1`,
			differs: "they came with Pushgateway 1.11",
		}, {
			name:   "no newline at the end",
			send:   []request{put("/metrics/job/j", "m 1", 400), put("/metrics/job/j", "m 1\nn 2", 400), put("/metrics/job/j", "m 1\n# comment", 400), put("/metrics/job/j", "# HELP m Text", 400)},
			serves: nothing,
		}, {
			name:    "line ends of Windows, a byte order mark, blanks at line ends",
			send:    []request{post("/metrics/job/j", "a 1\r\n", 400).but(200), post("/metrics/job/j", "\ufeffb 1\n", 400).but(200), post("/metrics/job/j", "c 1 \n", 400).but(200)},
			serves:  "a{job=\"j\"} 1\nb{job=\"j\"} 1\nc{job=\"j\"} 1",
			differs: "they are what editors leave, and can only mean one thing",
		}, {
			name:   "timestamps fail, and the failure is noted",
			send:   []request{put("/metrics/job/a", "m 1 1700000000000\n", 400), post("/metrics/job/b", "m 1\nn 1 0\n", 400), put("/metrics/job/c", "m 1 -1\n", 400)},
			serves: nothing,
		}, {
			name:   "timestamps that are none are not even a failure",
			send:   []request{put("/metrics/job/a", "m 1 1.5\n", 400), put("/metrics/job/b", "m 1 now\n", 400)},
			serves: nothing,
		}, {
			name:   "exemplars",
			send:   []request{put("/metrics/job/j", "# TYPE c counter\nc 1 # {trace_id=\"x\"} 1\n", 400)},
			serves: nothing,
		}, {
			name:   "series twice",
			send:   []request{put("/metrics/job/a", "m 1\nm 2\n", 400), put("/metrics/job/b", "m{x=\"1\",y=\"2\"} 1\nm{y=\"2\",x=\"1\"} 1\n", 400), put("/metrics/job/c", "m{instance=\"\"} 1\nm 2\n", 400)},
			serves: nothing,
		}, {
			name:   "series that are one only after the labels of the path",
			send:   []request{put("/metrics/job/j", "m{job=\"a\"} 1\nm{job=\"b\"} 2\n", 400)},
			serves: nothing,
		}, {
			name:    "series with an empty label and without",
			send:    []request{put("/metrics/job/j", "m{x=\"\"} 1\nm 2\n", 200).but(400)},
			serves:  nothing,
			differs: "a label with an empty value is the same as none, as in Prometheus",
		}, {
			name:   "empty label",
			send:   []request{put("/metrics/job/j", "m{x=\"\",y=\"1\"} 1\n", 200)},
			serves: `m{job="j",y="1"} 1`,
		}, {
			name:   "labels of the path overrule those of the body",
			send:   []request{put("/metrics/job/j/x/path", "m{job=\"body\",x=\"body\",y=\"body\"} 1\n", 200)},
			serves: `m{job="j",x="path",y="body"} 1`,
		}, {
			name: "instance in the body, empty in the body, and none",
			send: []request{put("/metrics/job/j", "m{instance=\"i\"} 1\nn{instance=\"\"} 1\nk 1\n", 200), put("/metrics/job/k/instance/path", "m{instance=\"i\"} 1\nn{instance=\"\"} 1\nk 1\n", 200)},
		}, {
			name:   "lines of a family scattered",
			send:   []request{put("/metrics/job/j", "# TYPE a gauge\na{x=\"1\"} 1\nb 1\na{x=\"2\"} 2\n", 200)},
			serves: "a{job=\"j\",x=\"1\"} 1\na{job=\"j\",x=\"2\"} 2\nb{job=\"j\"} 1",
		}, {
			name:   "values that are not UTF-8",
			send:   []request{put("/metrics/job/j", "m{x=\"\xff\"} 1\n", 400)},
			serves: nothing,
		}, {
			name:   "another format altogether",
			send:   []request{put("/metrics/job/j", "{\"m\": 1}\n", 400), put("/metrics/job/j", "<html>\n", 400), put("/metrics/job/j", "m=1\n", 400)},
			serves: nothing,
		},
	})
}

func TestEquivalenceOfHistogramsAndSummaries(t *testing.T) {
	const whole = "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"
	holds(t, []exchange{
		{
			name:   "histogram",
			send:   []request{put("/metrics/job/j", whole, 200)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_bucket{job=\"j\",le=\"1\"} 1\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
		}, {
			name:   "bounds are put into their shortest form",
			send:   []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"1e3\"} 2\nh_bucket{le=\"1e6\"} 2\nh_bucket{le=\"inf\"} 2\nh_sum 3\nh_count 2\n", 200)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_bucket{job=\"j\",le=\"1\"} 1\nh_bucket{job=\"j\",le=\"1000\"} 2\nh_bucket{job=\"j\",le=\"1e+06\"} 2\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
		}, {
			name:   "bucket of all is missing",
			send:   []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 2\n", 200)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_bucket{job=\"j\",le=\"1\"} 1\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
		}, {
			name: "count or sum is missing",
			send: []request{
				put("/metrics/job/j/no/count", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\n", 200), put("/metrics/job/j/no/sum", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_count 2\n", 200),
			},
			serves:  "h_bucket{job=\"j\",le=\"+Inf\",no=\"count\"} 2\nh_bucket{job=\"j\",le=\"+Inf\",no=\"sum\"} 2\nh_count{job=\"j\",no=\"sum\"} 2\nh_sum{job=\"j\",no=\"count\"} 3",
			differs: "no zero is made up",
		}, {
			name:   "no buckets",
			send:   []request{put("/metrics/job/j", "# TYPE h histogram\nh_sum 3\nh_count 2\n", 200)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
		}, {
			name: "buckets in any order, scattered, with labels",
			send: []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{x=\"a\",le=\"+Inf\"} 2\nh_count{x=\"b\"} 1\nh_bucket{x=\"a\",le=\"1\"} 1\nm 1\nh_sum{x=\"b\"} 1\nh_sum{x=\"a\"} 3\nh_count{x=\"a\"} 2\nh_bucket{le=\"+Inf\",x=\"b\"} 1\n", 200)},
		}, {
			name: "buckets that do not rise",
			send: []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"1\"} 5\nh_bucket{le=\"2\"} 3\nh_bucket{le=\"+Inf\"} 4\nh_sum 3\nh_count 9\n", 200)},
		}, {
			name:   "bound that is not a number",
			send:   []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"one\"} 1\n", 400)},
			serves: nothing,
		}, {
			name:    "bucket that is negative",
			send:    []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"1\"} -1\n", 200).but(400)},
			serves:  nothing,
			differs: "Pushgateway 1.11 refuses it as well",
		}, {
			name: "bucket without bound, line without suffix",
			send: []request{
				put("/metrics/job/a", "# TYPE h histogram\nh_bucket 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", 200).but(400),
				put("/metrics/job/b", "# TYPE h histogram\nh 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", 200).but(400),
			},
			serves:  nothing,
			differs: "a line is refused rather than forgotten without a word",
		}, {
			name: "sum that is not a number",
			send: []request{put("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\nh_sum NaN\nh_count 2\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum -Inf\ns_count 0\n", 200)},
		}, {
			name:   "without TYPE they are metrics like others",
			send:   []request{put("/metrics/job/j", "h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", 200)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_bucket{job=\"j\",le=\"1.0\"} 1\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
		}, {
			name:   "summary",
			send:   []request{put("/metrics/job/j", "# TYPE s summary\ns{quantile=\"0.50\"} 1\ns{quantile=\"0.99\"} NaN\ns_sum 3\ns_count 2\n", 200)},
			serves: "s{job=\"j\",quantile=\"0.5\"} 1\ns{job=\"j\",quantile=\"0.99\"} NaN\ns_count{job=\"j\"} 2\ns_sum{job=\"j\"} 3",
		}, {
			name: "summary without quantiles",
			send: []request{put("/metrics/job/a", "# TYPE s summary\ns_sum 3\ns_count 2\n", 200)},
		}, {
			name:    "summary without count and sum",
			send:    []request{put("/metrics/job/j", "# TYPE s summary\ns{quantile=\"1\"} 3\n", 200)},
			serves:  "s{job=\"j\",quantile=\"1\"} 3",
			differs: "no zero is made up",
		}, {
			name:   "quantile that is not a number",
			send:   []request{put("/metrics/job/j", "# TYPE s summary\ns{quantile=\"half\"} 1\n", 400)},
			serves: nothing,
		}, {
			name:    "counts with fractions",
			send:    []request{put("/metrics/job/j", "# TYPE s summary\ns_sum 3\ns_count 2.5\n", 200)},
			serves:  "s_count{job=\"j\"} 2.5\ns_sum{job=\"j\"} 3",
			differs: "the value is kept as it was pushed",
		}, {
			name: "histogram replaces another of the same group",
			send: []request{put("/metrics/job/j", whole, 200), post("/metrics/job/j", "# TYPE h histogram\nh_bucket{le=\"5\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n", 200)},
		}, {
			name:   "histogram and a family with one of its names, in another group",
			send:   []request{put("/metrics/job/j", whole, 200), put("/metrics/job/a", "h_count 1\n", 400), put("/metrics/job/b", "h_sum 1\n", 400), put("/metrics/job/c", "h_bucket 1\n", 400)},
			serves: "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_bucket{job=\"j\",le=\"1\"} 1\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
		}, {
			name:   "histogram after a family with one of its names",
			send:   []request{put("/metrics/job/j", "h_count 1\n", 200), put("/metrics/job/a", whole, 400), post("/metrics/job/j", whole, 400)},
			serves: `h_count{job="j"} 1`,
		}, {
			name:   "summary and a family with one of its names",
			send:   []request{put("/metrics/job/j", "# TYPE s summary\ns_sum 3\ns_count 2\n", 200), put("/metrics/job/a", "s_count 1\n", 400), put("/metrics/job/b", "s_sum 1\n", 400), put("/metrics/job/c", "s_bucket 1\n", 200)},
			serves: "s_bucket{job=\"c\"} 1\ns_count{job=\"j\"} 2\ns_sum{job=\"j\"} 3",
		}, {
			name:    "gauge histogram in text",
			send:    []request{put("/metrics/job/j", "# TYPE h gaugehistogram\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n", 400).but(200)},
			serves:  "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
			differs: "version 1.11 accepts the type as well",
		}, {
			name:    "gauge histogram of OpenMetrics",
			send:    []request{put("/metrics/job/j", "# TYPE h gaugehistogram\nh_bucket{le=\"+Inf\"} 2\nh_gsum 3\nh_gcount 2\n# EOF\n", 400).with("Content-Type", "application/openmetrics-text; version=1.0.0").but(200)},
			serves:  "h_bucket{job=\"j\",le=\"+Inf\"} 2\nh_count{job=\"j\"} 2\nh_sum{job=\"j\"} 3",
			differs: "Pushgateway reads it as text 0.0.4",
		},
	})
}
