package deploy

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../../examples/helm/promspool"

// allValues has a value for everything that is off by default.
const allValues = `
nameOverride: spool
imagePullSecrets: [{name: registry}]
image: {tag: "1.2.3"}
extraArgs: [--push.max-bytes=1MiB, "--web.external-url=https://example.org/a b"]
extraVars: [{name: GOMEMLIMIT, value: 100MiB}]
podAnnotations: {a: "1"}
podLabels: {team: x}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: system-node-critical
service: {port: 9191}
podMonitor: {enabled: true, additionalLabels: {release: prometheus}, interval: 30s, scrapeTimeout: 10s}
networkPolicy: {enabled: true, customSelectors: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
`

// render does what helm template does, without a cluster.
func render(t *testing.T, text string) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &values); err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "node", Namespace: "monitoring", IsInstall: true, Revision: 1}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

func TestChart(t *testing.T) {
	for name, values := range map[string]string{"default": "", "all": allValues, "port": "socket: {enabled: false}\nextraArgs: [--push.allow-remote]\n"} {
		t.Run(name, func(t *testing.T) {
			given := map[string]any{}
			if err := yaml.Unmarshal([]byte(values), &given); err != nil {
				t.Fatal(err)
			}
			for _, message := range lint.RunAll(chartDir, given, "monitoring").Messages {
				if message.Severity > support.InfoSev {
					t.Errorf("helm lint: %v", message)
				}
			}
			files, err := render(t, values)
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			for _, file := range slices.Sorted(maps.Keys(files)) {
				object := strings.TrimSpace(files[file])
				if object == "" || path.Ext(file) != ".yaml" {
					continue
				}
				text.WriteString("---\n" + object + "\n")
				into := map[string]any{"daemonset.yaml": &appsv1.DaemonSet{}, "networkpolicy.yaml": &networkingv1.NetworkPolicy{}, "podmonitor.yaml": &podMonitor{}}[path.Base(file)]
				if err := yaml.UnmarshalStrict([]byte(object), into); err != nil {
					t.Errorf("%s: %v", file, err)
				}
			}
			golden(t, "testdata/chart-"+name+".yaml", []byte(text.String()))
		})
	}
}

func TestChartRejectsUnknownValues(t *testing.T) {
	for _, tt := range []struct{ values, want string }{
		{"imagee: {}", "imagee"},
		{"image: {tagg: x}", "tagg"},
		{"socket: {mode: 0666}", "mode"},
		{"extraArgs: [push.allow-remote]", "extraArgs"},
		{"service: {port: 0}", "port"},
		{"spool: {hostPath: relative}", "hostPath"},
		{"podMonitor: {enabled: yes please}", "enabled"},
	} {
		if _, err := render(t, tt.values); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want an error about %s", tt.values, err, tt.want)
		}
	}
}
