// Package peertest has the tests of the agent with the programs that it works
// with: Prometheus, promtool, Pushgateway, node_exporter, VictoriaMetrics, load
// balancers, client libraries, cron and package managers. The examples and the
// documents, which name them, are tried here as well.
package peertest
