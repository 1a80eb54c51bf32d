package peertest

import "testing"

func TestEquivalenceOfMethods(t *testing.T) {
	const counter, gauge = "# TYPE m counter\nm 1\n", "# TYPE m gauge\nm 1\n"
	holds(t, []exchange{
		{
			name: "nothing was pushed",
		}, {
			name:   "PUT replaces the group, and no other",
			send:   []request{put("/metrics/job/j", "a 1\nb 1\n", 200), put("/metrics/job/j/x/1", "b 1\n", 200), put("/metrics/job/j", "b 2\n", 200)},
			serves: "b{job=\"j\",x=\"1\"} 1\nb{job=\"j\"} 2",
		}, {
			name:   "POST replaces the families that it names, and all of them",
			send:   []request{post("/metrics/job/j", "a{x=\"1\"} 1\na{x=\"2\"} 1\nb 1\n", 200), post("/metrics/job/j", "a{x=\"3\"} 3\nc 3\n", 200)},
			serves: "a{job=\"j\",x=\"3\"} 3\nb{job=\"j\"} 1\nc{job=\"j\"} 3",
		}, {
			name:   "HELP of the last push",
			send:   []request{put("/metrics/job/j", "# HELP m One.\nm 1\n", 200), post("/metrics/job/j", "# HELP m Two.\nm 2\n", 200)},
			serves: `m{job="j"} 2`,
		}, {
			name:   "empty PUT leaves the times alone",
			send:   []request{put("/metrics/job/j", "m 1\n", 200), put("/metrics/job/j", "", 200)},
			serves: nothing,
		}, {
			name:   "empty POST changes the time alone",
			send:   []request{put("/metrics/job/j", "m 1\n", 200), post("/metrics/job/j", "", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "empty PUT and POST make groups",
			send:   []request{put("/metrics/job/a", "", 200), post("/metrics/job/b", "", 200), post("/metrics/job/c", "# only a comment\n", 200), put("/metrics/job/d", "# TYPE m gauge\n", 200)},
			serves: nothing,
		}, {
			name:   "POST of a family without samples",
			send:   []request{put("/metrics/job/j", gauge, 200), post("/metrics/job/j", "# HELP m None.\n# TYPE m counter\n", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "failed push changes no metric and notes the time",
			send:   []request{put("/metrics/job/j", "m 1\n", 200), put("/metrics/job/j", "m 2 1000\n", 400), post("/metrics/job/j", "m 2\nm 3\n", 400)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "failed push to no group makes one",
			send:   []request{put("/metrics/job/j", "m 1\nm 2\n", 400)},
			serves: nothing,
		}, {
			name:   "push that cannot be read makes no group and notes nothing",
			send:   []request{put("/metrics/job/a", "m one\n", 400), put("/metrics/job/b", "m 1\n", 200), put("/metrics/job/b", "m one\n", 400)},
			serves: `m{job="b"} 1`,
		}, {
			name:   "push works after one that failed, which stays noted",
			send:   []request{put("/metrics/job/j", "m 1 1000\n", 400), put("/metrics/job/j", "m 2\n", 200)},
			serves: `m{job="j"} 2`,
		}, {
			name:   "DELETE takes the group away, and no other",
			send:   []request{put("/metrics/job/j", "m 1\n", 200), put("/metrics/job/j/x/1", "m 1\n", 200), remove("/metrics/job/j")},
			serves: `m{job="j",x="1"} 1`,
		}, {
			name:   "DELETE of no group, twice, in base64, with a body, with a slash at the end",
			send:   []request{remove("/metrics/job/j"), put("/metrics/job/a%2b", "m 1\n", 200), remove("/metrics/job@base64/YSs="), remove("/metrics/job/a+"), put("/metrics/job/c", "m 1\n", 200), {method: "DELETE", path: "/metrics/job/c/", body: "m one", code: 202}},
			serves: nothing,
		}, {
			name:   "DELETE takes the noted failure away",
			send:   []request{put("/metrics/job/j", "m 1 1000\n", 400), remove("/metrics/job/j"), put("/metrics/job/j", "m 1\n", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "other type in another group",
			send:   []request{put("/metrics/job/a", counter, 200), put("/metrics/job/b", gauge, 400), put("/metrics/job/c", "m 1\n", 400)},
			serves: `m{job="a"} 1`,
		}, {
			name:   "other type than one that was pushed without",
			send:   []request{put("/metrics/job/a", "m 1\n", 200), put("/metrics/job/b", gauge, 400)},
			serves: `m{job="a"} 1`,
		}, {
			name:   "other type in the same group",
			send:   []request{put("/metrics/job/j", counter, 200), put("/metrics/job/j", gauge, 200), post("/metrics/job/j", counter, 200), post("/metrics/job/j", "m 1\n", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "other type once the group is gone",
			send:   []request{put("/metrics/job/a", counter, 200), remove("/metrics/job/a"), put("/metrics/job/b", gauge, 200)},
			serves: `m{job="b"} 1`,
		}, {
			name:   "families that the server has as well",
			send:   []request{put("/metrics/job/j", "# HELP go_goroutines Number of goroutines that currently exist.\n# TYPE go_goroutines gauge\ngo_goroutines 1\n", 200), put("/metrics/job/k", "# TYPE go_goroutines counter\ngo_goroutines 1\n", 400)},
			serves: `go_goroutines{job="j"} 1`,
		}, {
			name:   "times of pushes in a first push",
			send:   []request{put("/metrics/job/j", "m 1\npush_time_seconds 1\npush_failure_time_seconds 1\n", 200)},
			serves: `m{job="j"} 1`,
		}, {
			name:   "wipe",
			send:   []request{put("/metrics/job/a", "m 1\n", 200), put("/metrics/job/b/x/1", "m 1\n", 200), put("/metrics/job/c", "m 1 1000\n", 400), ask("PUT", "/api/v1/admin/wipe", 202), put("/metrics/job/b", "m 2\n", 200)},
			serves: `m{job="b"} 2`,
		}, {
			name: "wipe of nothing",
			send: []request{ask("PUT", "/api/v1/admin/wipe", 202)},
		},
	})
}

func TestEquivalenceOfRoutes(t *testing.T) {
	holds(t, []exchange{
		{
			name: "pages",
			send: []request{
				ask("GET", "/metrics", 200), ask("GET", "/-/healthy", 200), ask("GET", "/-/ready", 200), ask("GET", "/", 200), ask("GET", "/status", 200),
				ask("GET", "/api/v1/status", 200), ask("GET", "/api/v1/metrics", 200), ask("GET", "/metrics?x=1", 200),
			},
		}, {
			name: "pages that there are none",
			send: []request{
				ask("GET", "/nothing", 404), ask("GET", "/api/v2/metrics", 404), ask("GET", "/-/", 404), ask("GET", "/api/v1/nothing", 404),
				ask("POST", "/nothing", 404), ask("DELETE", "/nothing", 404), ask("GET", "/metrics/nothing", 404),
			},
		}, {
			name: "pages by other methods",
			send: []request{
				ask("PUT", "/", 405), ask("PUT", "/metrics", 405), ask("POST", "/metrics", 405), ask("POST", "/-/healthy", 405), ask("DELETE", "/-/ready", 405),
				ask("POST", "/api/v1/metrics", 405), ask("PUT", "/api/v1/status", 405), ask("DELETE", "/status", 405),
			},
		}, {
			name: "groups by other methods",
			send: []request{
				ask("GET", "/metrics/job/j", 405), ask("PATCH", "/metrics/job/j/x/1", 405), ask("GET", "/metrics/job@base64/ag", 405),
				ask("HEAD", "/metrics/job/j", 405), ask("TRACE", "/metrics/job/j", 405),
			},
		}, {
			name: "wipe by other methods",
			send: []request{
				put("/metrics/job/j", "m 1\n", 200), ask("POST", "/api/v1/admin/wipe", 405), ask("GET", "/api/v1/admin/wipe", 405), ask("DELETE", "/api/v1/admin/wipe", 405),
			},
			serves: `m{job="j"} 1`,
		}, {
			name: "OPTIONS",
			send: []request{
				ask("OPTIONS", "/metrics", 200), ask("OPTIONS", "/metrics/job/j", 200), ask("OPTIONS", "/-/healthy", 200),
				ask("OPTIONS", "/api/v1/metrics", 200), ask("OPTIONS", "/api/v1/nothing", 200), ask("OPTIONS", "/nothing", 404),
			},
		}, {
			name:    "HEAD",
			send:    []request{ask("HEAD", "/metrics", 405).but(200), ask("HEAD", "/-/healthy", 405).but(200), ask("HEAD", "/", 405).but(200), ask("HEAD", "/api/v1/metrics", 405).but(200)},
			differs: "load balancers and probes ask so",
		}, {
			name:    "quit by other methods",
			send:    []request{ask("GET", "/-/quit", 405).butAllow("POST PUT"), ask("DELETE", "/-/quit", 405).butAllow("POST PUT")},
			differs: "Allow omits GET, which is not allowed either",
		}, {
			name:    "redirects between pages",
			send:    []request{ask("GET", "/api/v1", 301).but(404), ask("GET", "/METRICS", 301).but(404)},
			differs: "nothing has more than one path",
		}, {
			name: "pages with a slash at the end",
			send: []request{ask("GET", "/metrics/", 301), ask("GET", "/status/", 301), ask("GET", "/api/v1/metrics/", 301), ask("GET", "/api/v1/status/", 301), ask("GET", "/-/ready/", 301)},
		},
	})
}
