package main

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v2"
)

// scrapeConfig is what matters here of a scrape_config of Prometheus.
type scrapeConfig struct {
	Job          string `yaml:"job_name"`
	HonorLabels  bool   `yaml:"honor_labels"`
	MetricsPath  string `yaml:"metrics_path"`
	StaticConfig []struct {
		Targets []string `yaml:"targets"`
	} `yaml:"static_configs"`
}

// prometheusConfig is what matters here of a configuration file.
type prometheusConfig struct {
	Scrape      []scrapeConfig `yaml:"scrape_configs"`
	ScrapeFiles []string       `yaml:"scrape_config_files"`
}

// checkPrometheus looks for the job that scrapes the agent.
func (d *doctor) checkPrometheus(agent *agentSeen) {
	jobs, err := readScrapeConfigs(d.prometheus)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.say(skipped, "prometheus", "say with --prometheus.config where it is, if Prometheus runs here", "there is no %s", d.prometheus)
		return
	case errors.Is(err, fs.ErrPermission):
		d.say(skipped, "prometheus", "run promspool doctor as root", "%v", err)
		return
	case err != nil:
		d.say(wrong, "prometheus", "promtool check config "+d.prometheus+" says more", "%v", err)
		return
	}
	u, err := url.Parse(d.remote.url)
	if err != nil || u.Host == "" {
		d.say(skipped, "prometheus", "", "--url names no port to look for in %s", d.prometheus)
		return
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	var scraping []scrapeConfig
	for _, job := range jobs {
		for _, static := range job.StaticConfig {
			for _, target := range static.Targets {
				if d.isThisHost(target, u.Hostname(), port) {
					scraping = append(scraping, job)
				}
			}
		}
	}
	if len(scraping) == 0 {
		d.say(note, "prometheus", "add a job for localhost:"+port+" with honor_labels: true, if this Prometheus is the one that scrapes the agent",
			"no job in %s has this host and port %s among its static targets; other kinds of discovery are not followed", d.prometheus, port)
		return
	}
	before := len(d.findings)
	if len(scraping) > 1 {
		d.say(note, "prometheus", "keep one of them", "%d targets in %s are the agent, so each of its series is stored as often", len(scraping), d.prometheus)
	}
	for _, job := range scraping {
		if !job.HonorLabels {
			d.say(wrong, "prometheus", "set honor_labels: true in this job", "the job %q scrapes the agent without honor_labels: what was pushed with job=\"backup\" becomes exported_job=\"backup\"", job.Job)
		}
		if agent == nil {
			continue
		}
		if served := metricsPath(agent.flags); path.Clean("/"+job.MetricsPath) != served {
			d.say(wrong, "prometheus", "set metrics_path: "+served, "the job %q scrapes %s, and the agent has its metrics at %s", job.Job, path.Clean("/"+job.MetricsPath), served)
		}
	}
	if len(d.findings) == before {
		d.say(fine, "prometheus", "", "the job %q in %s scrapes the agent with honor_labels", scraping[0].Job, d.prometheus)
	}
}

// metricsPath returns where an agent with these flags serves its metrics.
func metricsPath(flags map[string]string) string {
	prefix := flags["web.route-prefix"]
	if prefix == "" {
		if u, err := url.Parse(flags["web.external-url"]); err == nil {
			prefix = u.Path
		}
	}
	return path.Join("/", prefix, flags["web.telemetry-path"])
}

// isThisHost reports whether a target is the agent: by its port, and a name that
// this host has.
func (d *doctor) isThisHost(target, name, port string) bool {
	host, p, err := net.SplitHostPort(target)
	if err != nil || p != port {
		return false
	}
	own, _ := os.Hostname() // without a name there are others
	short, _, _ := strings.Cut(own, ".")
	targetShort, _, _ := strings.Cut(host, ".")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, name) || strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() ||
		own != "" && (strings.EqualFold(host, own) || ip == nil && strings.EqualFold(targetShort, short))
}

// readScrapeConfigs reads the jobs of a configuration, and of the files that it
// names.
func readScrapeConfigs(file string) ([]scrapeConfig, error) {
	var config prometheusConfig
	if err := readYAML(file, &config); err != nil {
		return nil, err
	}
	jobs := config.Scrape
	for _, pattern := range config.ScrapeFiles {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue // Prometheus itself refuses it
		}
		for _, name := range names {
			var more prometheusConfig
			if err := readYAML(name, &more); err != nil {
				return nil, err
			}
			jobs = append(jobs, more.Scrape...)
		}
	}
	for i := range jobs {
		if jobs[i].MetricsPath == "" {
			jobs[i].MetricsPath = "/metrics"
		}
	}
	return jobs, nil
}

func readYAML(file string, into any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		// Its text quotes the file, where there may be a password.
		return errors.New(oneLine(file) + " is not the YAML that Prometheus reads")
	}
	return nil
}
