// Package peertest tests the agent together with other programs: Prometheus, promtool,
// Pushgateway, node_exporter, VictoriaMetrics, load balancers, client libraries, cron
// and package managers. It also tests the examples and documents, which name them.
package peertest
