package peertest

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// instructions returns the arguments of each instruction of the last stage.
func instructions(t *testing.T, text string) map[string][]string {
	t.Helper()
	known := regexp.MustCompile(`^(FROM|ARG|WORKDIR|COPY|RUN|ENV|USER|VOLUME|EXPOSE|HEALTHCHECK|ENTRYPOINT) (.+)$`)
	var last map[string][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		found := known.FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("%q is not an instruction that this test supports", line)
		}
		if found[1] == "FROM" {
			last = map[string][]string{}
		}
		last[found[1]] = append(last[found[1]], found[2])
	}
	return last
}

// These are the fields that the examples use, as Kubernetes spells them:
// decoding is strict, so any other spelling is an error.
type (
	k8sMeta struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	}
	k8sProbe struct {
		HTTPGet        struct{ Path, Port string } `yaml:"httpGet"`
		TimeoutSeconds int                         `yaml:"timeoutSeconds"`
	}
	k8sContainer struct {
		Name, Image   string
		Command, Args []string
		Env           []struct {
			Name, Value string
			ValueFrom   struct {
				FieldRef struct {
					FieldPath string `yaml:"fieldPath"`
				} `yaml:"fieldRef"`
			} `yaml:"valueFrom"`
		}
		Ports []struct {
			Name          string
			ContainerPort int `yaml:"containerPort"`
			HostPort      int `yaml:"hostPort"`
		}
		SecurityContext struct {
			RunAsNonRoot             bool `yaml:"runAsNonRoot"`
			RunAsUser                int  `yaml:"runAsUser"`
			RunAsGroup               int  `yaml:"runAsGroup"`
			AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct{ Drop []string }
		} `yaml:"securityContext"`
		LivenessProbe  k8sProbe                                        `yaml:"livenessProbe"`
		ReadinessProbe k8sProbe                                        `yaml:"readinessProbe"`
		Resources      struct{ Requests struct{ CPU, Memory string } } `yaml:"resources"`
		VolumeMounts   []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	k8sPod struct {
		Metadata k8sMeta
		Spec     struct {
			AutomountServiceAccountToken bool   `yaml:"automountServiceAccountToken"`
			RestartPolicy                string `yaml:"restartPolicy"`
			SecurityContext              struct {
				SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
			} `yaml:"securityContext"`
			InitContainers []k8sContainer `yaml:"initContainers"`
			Containers     []k8sContainer
			Volumes        []struct {
				Name     string
				HostPath struct{ Path, Type string } `yaml:"hostPath"`
			}
		}
	}
	k8sDaemonSet struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   k8sMeta
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template k8sPod
		}
	}
	k8sCronJob struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   k8sMeta
		Spec       struct {
			Schedule          string
			ConcurrencyPolicy string `yaml:"concurrencyPolicy"`
			JobTemplate       struct {
				Spec struct {
					BackoffLimit int `yaml:"backoffLimit"`
					Template     k8sPod
				}
			} `yaml:"jobTemplate"`
		}
	}
)

// TestKubernetesExample runs the agent with the arguments of the DaemonSet, and
// the script of the job against it.
func TestKubernetesExample(t *testing.T) {
	t.Parallel()
	var set k8sDaemonSet
	agenttest.NoError(t, yaml.UnmarshalStrict([]byte(example(t, "kubernetes/daemonset.yaml")), &set))
	if set.APIVersion != "apps/v1" || set.Kind != "DaemonSet" {
		t.Errorf("the example is a %s of %s", set.Kind, set.APIVersion)
	}
	const label = "app.kubernetes.io/name"
	if name := set.Spec.Selector.MatchLabels[label]; name == "" || set.Spec.Template.Metadata.Labels[label] != name {
		t.Errorf("the selector %q does not find the pods", name)
	}
	pod := set.Spec.Template.Spec
	c := pod.Containers[0]
	user := instructions(t, example(t, "container/Containerfile"))["USER"][0]
	if !c.SecurityContext.RunAsNonRoot || c.SecurityContext.RunAsUser != 65532 || c.SecurityContext.RunAsGroup != 65532 || user != "65532:65532" {
		t.Errorf("the pod runs as %+v, the image as %s", c.SecurityContext, user)
	}
	for _, container := range append(pod.InitContainers, c) {
		for _, mount := range container.VolumeMounts {
			if mount.Name != pod.Volumes[0].Name || mount.MountPath != "/var/lib/promspool" {
				t.Errorf("%s mounts %+v, want the one volume", container.Name, mount)
			}
		}
	}
	if pod.Volumes[0].HostPath.Type != "DirectoryOrCreate" || c.Ports[0].ContainerPort != 9091 || c.Ports[0].HostPort != 9091 {
		t.Errorf("volume %+v, port %+v", pod.Volumes[0], c.Ports[0])
	}
	var flags []string
	for _, arg := range c.Args {
		switch arg {
		case "--spool.directory=/var/lib/promspool/spool", "--web.listen-address=:9091": // the test has its own
		default:
			flags = append(flags, arg)
		}
	}
	a := agenttest.StartAgent(t, "", flags...)
	for _, probe := range []k8sProbe{c.LivenessProbe, c.ReadinessProbe} {
		if code, _ := a.Send(http.MethodGet, probe.HTTPGet.Path, ""); code != http.StatusOK || probe.HTTPGet.Port != c.Ports[0].Name {
			t.Errorf("%s at port %s = %d, want 200 at port %s", probe.HTTPGet.Path, probe.HTTPGet.Port, code, c.Ports[0].Name)
		}
	}

	var job k8sCronJob
	agenttest.NoError(t, yaml.UnmarshalStrict([]byte(example(t, "kubernetes/cronjob.yaml")), &job))
	run := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
	if job.APIVersion != "batch/v1" || job.Kind != "CronJob" || len(strings.Fields(job.Spec.Schedule)) != 5 || run.Env[1].Value != "http://$(NODE):9091" {
		t.Errorf("the job is %+v", job)
	}
	agenttest.Need(t, "curl")
	agenttest.Command{Name: run.Command[0], Args: append(run.Command[1:], run.Args...), Env: []string{run.Env[1].Name + "=" + a.URL}}.Must(t)
	if !strings.Contains(a.Page(), `backup_last_success_timestamp_seconds{job="backup"} 1`) {
		t.Errorf("the job has not pushed:\n%s", a.Merge())
	}
}

// TestKubernetesSocketExample runs the script of the job that pushes over a socket.
func TestKubernetesSocketExample(t *testing.T) {
	t.Parallel()
	agenttest.Need(t, "curl")
	var job k8sCronJob
	agenttest.NoError(t, yaml.UnmarshalStrict([]byte(example(t, "kubernetes/cronjob-socket.yaml")), &job))
	socket := filepath.Join(t.TempDir(), "push.sock")
	a := agenttest.StartAgent(t, "", "--push.socket="+socket, "--push.socket-mode=0666")
	run := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
	agenttest.Command{Name: run.Command[0], Args: append(run.Command[1:], replace(t, run.Args[0], "/run/promspool/push.sock", socket))}.Must(t)
	if !strings.Contains(a.Page(), `backup_last_success_timestamp_seconds{job="backup"} 1`) {
		t.Errorf("the job has not pushed:\n%s", a.Merge())
	}
}
