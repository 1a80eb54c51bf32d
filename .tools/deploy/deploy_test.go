// Package deploy renders the examples for Kubernetes, as kubectl and helm would, and checks them.
// It is a module of its own, since these libraries are large.
package deploy

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

const examples = "../../examples/kubernetes"

// podMonitor is what the example uses of the type of the Prometheus Operator.
type podMonitor struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		PodMetricsEndpoints []struct {
			Port        string `json:"port"`
			HonorLabels bool   `json:"honorLabels"`
			Interval    string `json:"interval"`
			Timeout     string `json:"scrapeTimeout"`
			Relabelings []struct {
				SourceLabels []string `json:"sourceLabels"`
				TargetLabel  string   `json:"targetLabel"`
			} `json:"relabelings"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// TestKustomization compares the rendered objects with a golden file and decodes them
// strictly: an unknown or misplaced field is an error.
func TestKustomization(t *testing.T) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), examples)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/kustomization.yaml", text)
	var (
		set     appsv1.DaemonSet
		job     batchv1.CronJob
		policy  networkingv1.NetworkPolicy
		monitor podMonitor
	)
	into := map[string]any{"DaemonSet": &set, "CronJob": &job, "NetworkPolicy": &policy, "PodMonitor": &monitor}
	for _, object := range resources.Resources() {
		one, err := object.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		kind := object.GetKind()
		if into[kind] == nil {
			t.Errorf("a second %s, or an unknown kind", kind)
			continue
		}
		if err := yaml.UnmarshalStrict(one, into[kind]); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		delete(into, kind)
	}
	if len(into) > 0 {
		t.Fatalf("there is no %v", into)
	}
	pod, agent := set.Spec.Template, set.Spec.Template.Spec.Containers[0]
	for _, selector := range []map[string]string{set.Spec.Selector.MatchLabels, policy.Spec.PodSelector.MatchLabels, monitor.Spec.Selector.MatchLabels} {
		for name, value := range selector {
			if pod.Labels[name] != value {
				t.Errorf("the selector %v does not find the pods", selector)
			}
		}
	}
	if port := agent.Ports[0]; port.HostPort != 0 || monitor.Spec.PodMetricsEndpoints[0].Port != port.Name || policy.Spec.Ingress[0].Ports[0].Port.StrVal != port.Name {
		t.Errorf("the port %+v is not the one that is scraped, or is open on the node", port)
	}
	if args := strings.Join(agent.Args, " "); strings.Contains(args, "allow-remote") || !strings.Contains(args, "--push.socket=/run/promspool/push.sock") {
		t.Errorf("the agent has the arguments %s", args)
	}
	run := job.Spec.JobTemplate.Spec.Template.Spec
	var shared string
	for _, v := range pod.Spec.Volumes {
		if v.Name == "socket" {
			shared = v.HostPath.Path
		}
	}
	if shared == "" || run.Volumes[0].HostPath.Path != shared || !run.Containers[0].VolumeMounts[0].ReadOnly {
		t.Errorf("the job mounts %+v, want %s", run.Volumes[0], shared)
	}
}

// golden compares with a file, or writes it with -update.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the rendered text; run go test -update in .tools/deploy\n%s", name, got)
	}
}
