// Runs a backup and pushes its result, with the official client:
//
//	go run . COMMAND [ARGUMENT...]
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/push"
)

func gauge(name, help string, value float64) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	g.Set(value)
	return g
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: backup COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	start := time.Now()
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	status := cmd.ProcessState.ExitCode() // -1 if it could not be started
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		fmt.Fprintln(os.Stderr, "backup:", err)
	}

	pusher := push.New(cmp.Or(os.Getenv("PROMSPOOL"), "localhost:9091"), "backup").
		Collector(gauge("backup_duration_seconds", "How long the last run took.", time.Since(start).Seconds())).
		Collector(gauge("backup_exit_status", "Exit status of the last run.", float64(status)))
	if status == 0 {
		// Add (a POST) keeps metrics that it does not have, so after a failed run the
		// time of the last success remains.
		pusher.Collector(gauge("backup_last_success_timestamp_seconds", "When the last successful run ended.", float64(time.Now().Unix())))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := pusher.AddContext(ctx); err != nil { // independent of the result of the backup
		fmt.Fprintln(os.Stderr, "backup: the push failed:", err)
	}
	if status != 0 {
		cancel()
		os.Exit(max(status, 1))
	}
}
