package peertest

import (
	"strings"
	"testing"
)

func TestEquivalenceOfPaths(t *testing.T) {
	holds(t, []exchange{
		{
			name:   "job alone",
			send:   []request{put("/metrics/job/j", "m 1\n", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "one slash after the job is the same group",
			send:   []request{put("/metrics/job/j", "m 1\n", 200), post("/metrics/job/j/", "n 1\n", 200)},
			serves: "m{job=\"j\"} 1\nn{job=\"j\"} 1",
		}, {
			name:   "labels in any order are the same group",
			send:   []request{put("/metrics/job/j/a/1/b/2", "m 1\n", 200), put("/metrics/job/j/b/2/a/1", "n 1\n", 200)},
			serves: `n{a="1",b="2",job="j"} 1`,
		}, {
			name:   "instance in the path",
			send:   []request{put("/metrics/job/j/instance/i", "m 1\n", 200)},
			serves: `m{instance="i",job="j"} 1`,
		}, {
			name:   "le and quantile in the path are ordinary labels of a gauge",
			send:   []request{put("/metrics/job/j/le/5/quantile/x", "# TYPE m gauge\nm 1\n", 200)},
			serves: `m{job="j",le="5",quantile="x"} 1`,
		}, {
			name:   "encoded slash separates",
			send:   []request{put("/metrics/job/a%2Fb/c", "m 1\n", 200), put("/metrics/job/a%2fb", "m 1\n", 400)},
			serves: `m{b="c",job="a"} 1`,
		}, {
			name:   "path is decoded once",
			send:   []request{put("/metrics/job/a%252Fb", "m 1\n", 200)},
			serves: `m{job="a%2Fb"} 1`,
		}, {
			name:   "plus stays, %20 is a blank",
			send:   []request{put("/metrics/job/a+b%20c", "m 1\n", 200)},
			serves: `m{job="a+b c"} 1`,
		}, {
			name:   "semicolon, equals, comma, at and colon stay",
			send:   []request{put("/metrics/job/a;b=c,d@e:f", "m 1\n", 200)},
			serves: `m{job="a;b=c,d@e:f"} 1`,
		}, {
			name:   "query is ignored",
			send:   []request{put("/metrics/job/j?job=x&y=1", "m 1\n", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "names are decoded as well",
			send:   []request{put("/%6detrics/%6aob/j/%6cabel/v", "m 1\n", 200)},
			serves: `m{job="j",label="v"} 1`,
		}, {
			name:   "quotes, backslashes and newlines",
			send:   []request{put("/metrics/job/a%0A%22%5C", "m 1\n", 200)},
			serves: `m{job="a\n\"\\"} 1`,
		}, {
			name:   "value in UTF-8",
			send:   []request{put("/metrics/job/%CE%A0/stadt/K%C3%B6ln", "m 1\n", 200)},
			serves: `m{job="Π",stadt="Köln"} 1`,
		}, {
			name:   "long value",
			send:   []request{put("/metrics/job/"+strings.Repeat("v", 3000), "m 1\n", 200)},
			serves: `m{job="` + strings.Repeat("v", 3000) + `"} 1`,
		}, {
			name: "broken escape",
			send: []request{put("/metrics/job/%zz", "m 1\n", 400), put("/metrics/job/%2", "m 1\n", 400)},
		}, {
			name:   "base64 of the job",
			send:   []request{put("/metrics/job@base64/L3Zhci90bXA", "m 1\n", 200)},
			serves: `m{job="/var/tmp"} 1`,
		}, {
			name: "base64 with any number of padding characters is the same group",
			send: []request{
				put("/metrics/job/j/x@base64/YQ", "a 1\n", 200), post("/metrics/job/j/x@base64/YQ==", "b 1\n", 200),
				post("/metrics/job/j/x@base64/YQ=", "c 1\n", 200), post("/metrics/job/j/x@base64/YQ====", "d 1\n", 200), post("/metrics/job/j/x/a", "e 1\n", 200),
			},
			serves: "a{job=\"j\",x=\"a\"} 1\nb{job=\"j\",x=\"a\"} 1\nc{job=\"j\",x=\"a\"} 1\nd{job=\"j\",x=\"a\"} 1\ne{job=\"j\",x=\"a\"} 1",
		}, {
			name:   "base64 is URL-safe",
			send:   []request{put("/metrics/job/j/x@base64/zqDPgc6_zrzOt864zrXPjc-C", "m 1\n", 200)},
			serves: `m{job="j",x="Προμηθεύς"} 1`,
		}, {
			name: "base64 in the standard alphabet",
			send: []request{put("/metrics/job/j/x@base64/+A", "m 1\n", 400), put("/metrics/job@base64/zqDPgc6+", "m 1\n", 400)},
		}, {
			name: "base64 that is none",
			send: []request{put("/metrics/job@base64/!!", "m 1\n", 400), put("/metrics/job/j/x@base64/Y", "m 1\n", 400), put("/metrics/job/j/x@base64/Y%3DQ", "m 1\n", 400)},
		}, {
			name: "base64 by another name",
			send: []request{
				put("/metrics/job/j/x@BASE64/YQ", "m 1\n", 400), put("/metrics/job/j/x@base64@base64/YQ", "m 1\n", 400),
				put("/metrics/job/j/@base64/YQ", "m 1\n", 400), put("/metrics/job/j/x@base32/YQ", "m 1\n", 400),
			},
		}, {
			name:   "second job is overruled by the first",
			send:   []request{put("/metrics/job/j/job/other", "m 1\n", 200), post("/metrics/job/j/job@base64/b3RoZXI", "n 1\n", 200)},
			serves: "m{job=\"j\"} 1\nn{job=\"j\"} 1",
		}, {
			name:   "last of repeated labels counts",
			send:   []request{put("/metrics/job/j/x/1/x@base64/Mg", "m 1\n", 200)},
			serves: `m{job="j",x="2"} 1`,
		}, {
			name: "empty job",
			send: []request{put("/metrics/job@base64/=", "m 1\n", 400), post("/metrics/job@base64/====", "m 1\n", 400)},
		}, {
			name: "odd number of components",
			send: []request{put("/metrics/job/j/x", "m 1\n", 400), put("/metrics/job/j/x/1/", "m 1\n", 400), post("/metrics/job/j/x/1/y", "m 1\n", 400)},
		}, {
			name: "label names that are none",
			send: []request{
				put("/metrics/job/j/a-b/1", "m 1\n", 400), put("/metrics/job/j/1a/1", "m 1\n", 400), put("/metrics/job/j/a.b/1", "m 1\n", 400),
				put("/metrics/job/j/%CF%80/1", "m 1\n", 400), put("/metrics/job/j/a:b/1", "m 1\n", 400), put("/metrics/job/j/a%20/1", "m 1\n", 400),
			},
		}, {
			name: "reserved label names",
			send: []request{put("/metrics/job/j/__name__/x", "m 1\n", 400), post("/metrics/job/j/__x/1", "m 1\n", 400)},
		}, {
			name:   "names with U__ are literal without UTF-8 names",
			send:   []request{put("/metrics/job/j/U__a_2e_b/1", "m 1\n", 200)},
			serves: `m{U__a_2e_b="1",job="j"} 1`,
		}, {
			name:   "empty value by base64",
			send:   []request{put("/metrics/job/j/x@base64/=", "m 1\n", 200), post("/metrics/job/j/x@base64/==", "n 1\n", 200)},
			serves: "m{job=\"j\"} 1\nn{job=\"j\"} 1",
		}, {
			name:    "empty value by a slash at the end",
			send:    []request{put("/metrics/job/j", "keep 1\n", 200), put("/metrics/job/j/x/", "m 1\n", 200).but(400), post("/metrics/job/j/x/1/y/", "m 1\n", 200).but(400)},
			serves:  `keep{job="j"} 1`,
			differs: "it is an unset variable of a shell, and a label with an empty value is the same as none: another group would change",
		}, {
			name:    "empty value in base64 without padding",
			send:    []request{put("/metrics/job/j", "keep 1\n", 200), put("/metrics/job/j/x@base64/", "m 1\n", 200).but(400)},
			serves:  `keep{job="j"} 1`,
			differs: "it is an unset variable of a shell, and a label with an empty value is the same as none: another group would change",
		}, {
			name: "encoded slashes that leave an empty component",
			send: []request{
				put("/metrics/job/j/var/tmp", "keep 1\n", 200), put("/metrics/job/j", "keep 1\n", 200),
				put("/metrics/job/j/path/%2Fvar%2Ftmp", "m 1\n", 301).but(400), put("/metrics/job/j/path/%2fvar%2f", "m 1\n", 301).but(400),
				put("/metrics/job/j/path/var%2F", "m 1\n", 400), post("/metrics/job/j/path/a%2F%2Fb", "m 1\n", 301).but(400),
				put("/metrics/job/%2Fvar%2Ftmp", "m 1\n", 301).but(400), put("/metrics/job/j%2F", "m 1\n", 200).but(400), put("/metrics/job/j\"%2F", "m 1\n", 200).but(400),
			},
			serves:  "keep{job=\"j\",var=\"tmp\"} 1\nkeep{job=\"j\"} 1",
			differs: "the value is lost, and the rest of the path names another group",
		}, {
			name:   "encoded slashes that separate full pairs",
			send:   []request{put("/metrics/job/j/path/a%2Fb%2Fc", "m 1\n", 200), post("/metrics/job%2Fj%2Fpath/a/b/c", "n 1\n", 200)},
			serves: "m{b=\"c\",job=\"j\",path=\"a\"} 1\nn{b=\"c\",job=\"j\",path=\"a\"} 1",
		}, {
			name:    "empty value is another group in Pushgateway",
			send:    []request{put("/metrics/job/j", "m 1\n", 200), put("/metrics/job/j/x@base64/=", "n 1\n", 200)},
			serves:  `n{job="j"} 1`,
			differs: "a label with an empty value is the same as none, as in Prometheus",
		}, {
			name:   "no job",
			send:   []request{put("/metrics/job", "m 1\n", 404), put("/metrics/instance/i", "m 1\n", 404), put("/metrics/jobs/j", "m 1\n", 404), put("/job/j", "m 1\n", 404)},
			serves: nothing,
		}, {
			name:    "job that is missing",
			send:    []request{put("/metrics/job/", "m 1\n", 307).but(404), put("/metrics/job@base64/", "m 1\n", 404)},
			serves:  nothing,
			differs: "clients turn a redirected PUT into a GET",
		}, {
			name: "paths that have to be cleaned",
			send: []request{
				put("/metrics/job//j", "m 1\n", 301).but(400), put("/metrics/job/./j", "m 1\n", 301).but(400), put("/metrics/job/a/../j", "m 1\n", 301).but(400),
			},
			serves:  nothing,
			differs: "clients turn a redirected PUT into a GET",
		}, {
			name:    "path in upper case",
			send:    []request{put("/METRICS/job/j", "m 1\n", 307).but(404), put("/metrics/JOB/j", "m 1\n", 307).but(404)},
			serves:  nothing,
			differs: "clients turn a redirected PUT into a GET",
		}, {
			name:   "dots when they are encoded",
			send:   []request{put("/metrics/job@base64/Lg/x@base64/Li4", "m 1\n", 200)},
			serves: `m{job=".",x=".."} 1`,
		},
	})
}
