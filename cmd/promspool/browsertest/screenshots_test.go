package browsertest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/promspool/promspool/cmd/promspool/internal/agenttest"
)

// mostPicture is the maximum size of a picture in the documentation, in bytes.
const mostPicture = 100_000

// TestScreenshots takes the pictures of the documentation, of a spool with made-up
// data. With PROMSPOOL_SCREENSHOTS they are stored in that directory: see the target
// screenshots of the Makefile.
func TestScreenshots(t *testing.T) {
	agenttest.Need(t, "chromium")
	dir := os.Getenv("PROMSPOOL_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	a := agenttest.StartAgent(t, exampleSpool(t), "--web.enable-admin-api")
	agenttest.WaitFor(t, "the files are served", func() bool {
		_, list := a.Send("GET", "/api/v1/files?state=broken", "")
		return strings.Contains(list, "temperature.prom")
	})
	b := startBrowser(t)
	for _, c := range []struct {
		name          string
		query         string
		width, height int
		dark          bool
		unfold        string // text of a row
	}{
		{"groups", "?view=groups", 1180, 720, false, `"nas.example.org"`},
		{"jobs", "?view=jobs", 1180, 560, false, ""},
		{"phone", "?view=jobs&state=faulty", 390, 760, false, ""},
		{"dark", "?view=files", 1180, 520, true, "temperature.prom"},
	} {
		p := b.open(t, "about:blank")
		p.sized(c.width, c.dark)
		p.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": c.width, "height": c.height, "deviceScaleFactor": 1, "mobile": c.width < 600})
		p.load(a.URL + "/" + c.query)
		if c.unfold != "" {
			p.click(p.mark(row(c.unfold) + `.querySelector("a.unfold")`))
			p.waitFor("it unfolds", `document.querySelector(".below .about") !== null`)
		}
		p.eval(`document.activeElement.blur(); document.querySelector(".host").textContent = "server1"; document.querySelector("footer code").textContent = "/var/lib/promspool/spool"; scrollTo(0, 0)`)
		p.wellBehaved(a.URL)
		file := filepath.Join(dir, c.name+".png")
		p.capture(file)
		compact(t, file)
		fi, err := os.Stat(file)
		agenttest.NoError(t, err)
		if fi.Size() > mostPicture || fi.Size() < 5000 {
			t.Errorf("the picture %s has %d bytes", file, fi.Size())
		}
	}
}

// compact stores a picture with the 256 colours that are most frequent in it.
func compact(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	agenttest.NoError(t, err)
	full, err := png.Decode(bytes.NewReader(data))
	agenttest.NoError(t, err)
	counts := map[color.Color]int{}
	size := full.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			counts[full.At(x, y)]++
		}
	}
	palette := slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int { return counts[b] - counts[a] })
	small := image.NewPaletted(size, palette[:min(256, len(palette))])
	draw.Draw(small, size, full, size.Min, draw.Src)
	var b bytes.Buffer
	agenttest.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, small))
	agenttest.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
}

// exampleSpool returns a spool with groups of several ages, jobs in each state and
// files with faults.
func exampleSpool(t *testing.T) string {
	t.Helper()
	spool := filepath.Join(t.TempDir(), "spool")
	agenttest.NoError(t, os.Mkdir(spool, 0o755))
	now := time.Now()
	ago := func(d time.Duration) int64 { return now.Add(-d).Unix() }
	drop := func(name, text string, age time.Duration) {
		path := filepath.Join(spool, name)
		agenttest.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		agenttest.NoError(t, os.Chtimes(path, now.Add(-age), now.Add(-age)))
	}
	// push stores a group. In the text, LABELS stands for its labels.
	push := func(labels, attributes, text string, age time.Duration) {
		names := strings.NewReplacer(`"`, "", " ", "")
		key := "{" + labels + "}"
		text += fmt.Sprintf("# TYPE push_time_seconds gauge\npush_time_seconds{LABELS} %d\n", ago(age))
		drop(names.Replace(labels)+".prom", "# promspool:group "+key+"\n"+attributes+strings.ReplaceAll(text, "LABELS", labels), age)
	}
	gauge := func(name, help string, value any) string {
		return fmt.Sprintf("# HELP %s %s\n# TYPE %[1]s gauge\n%[1]s{LABELS} %[3]v\n", name, help, value)
	}
	for i, host := range []string{"db1", "db2", "nas", "web1"} {
		push(`job="backup",instance="`+host+`.example.org"`, "", gauge("backup_size_bytes", "Size of the last backup.", 1345120000+i*7919)+
			gauge("backup_files", "Files in the last backup.", 18412+i*77)+
			gauge("backup_last_success_timestamp_seconds", "Time of the last backup.", ago(time.Duration(i+2)*time.Hour)), time.Duration(i+2)*time.Hour)
	}
	push(`job="certificates"`, "", gauge("certificate_expires_timestamp_seconds", "End of the certificate.", ago(-40*24*time.Hour)), 35*time.Minute)
	for i, branch := range []string{"main", "release"} {
		push(`job="ci",branch="`+branch+`"`, "", gauge("ci_build_seconds", "Duration of the build.", 182.5+float64(i)), time.Duration(9+i*40)*time.Minute)
	}
	push(`job="ci",branch="old-feature"`, fmt.Sprintf("# promspool:expired %d\n# promspool:ttl 7d\n", ago(50*time.Hour)), "", 9*24*time.Hour)
	push(`job="report"`, fmt.Sprintf("# promspool:refused %d syntax 192.0.2.17 line 3: metric \"report_rows\": invalid value: use a decimal point\n", ago(4*time.Minute)),
		gauge("report_rows", "Rows of the report.", 90412), 26*time.Hour)
	job := func(name string, age, took time.Duration, exit int, pairs ...any) {
		text := ""
		add := func(metric string, value any) {
			text += fmt.Sprintf("# TYPE promspool_job_%s gauge\npromspool_job_%[1]s{LABELS} %[2]v\n", metric, value)
		}
		for i := 0; i < len(pairs); i += 2 {
			add(pairs[i].(string), pairs[i+1])
		}
		add("start_timestamp_seconds", ago(age))
		if exit != 999 {
			add("end_timestamp_seconds", ago(age-took))
			add("exit_code", exit)
			add("duration_seconds", took.Seconds())
		}
		success := age + 24*time.Hour
		if exit == 0 {
			success = age - took
		}
		add("success_timestamp_seconds", ago(success))
		failed, timedOut, lost := 1, 0, 0
		switch exit {
		case 124:
			timedOut = 1
		case -1:
			lost = 1
		case 3:
			failed = 4
		}
		text += fmt.Sprintf("# TYPE promspool_job_runs_total counter\npromspool_job_runs_total{LABELS,outcome=\"failure\"} %d\npromspool_job_runs_total{LABELS,outcome=\"lost\"} %d\npromspool_job_runs_total{LABELS,outcome=\"success\"} %d\npromspool_job_runs_total{LABELS,outcome=\"timeout\"} %d\n", failed, lost, 40+len(name), timedOut)
		push(`job="`+name+`"`, "", text, age)
	}
	day := 24 * time.Hour
	job("db-dump", 3*time.Hour, 21*time.Minute, 0, "next_due_timestamp_seconds", ago(-21*time.Hour))
	job("rotate-logs", 40*time.Minute, 4*time.Second, 0, "next_due_timestamp_seconds", ago(-20*time.Minute))
	job("import-orders", 12*time.Minute, 95*time.Second, 3, "next_due_timestamp_seconds", ago(-48*time.Minute))
	job("sync-photos", 5*time.Hour, time.Hour, 124, "next_due_timestamp_seconds", ago(-19*time.Hour))
	job("rebuild-index", 8*time.Hour, 9*time.Minute, -1, "next_due_timestamp_seconds", ago(-16*time.Hour))
	job("renew-certificates", 3*day, 20*time.Second, 0, "next_due_timestamp_seconds", ago(2*day))
	job("nightly-report", 6*time.Minute, 0, 999, "running", 1, "next_due_timestamp_seconds", ago(-23*time.Hour))
	drop("raid.prom", "# HELP raid_disks Disks of the array.\n# TYPE raid_disks gauge\nraid_disks{array=\"md0\"} 4\n", 2*time.Minute)
	drop("apt.prom", "# HELP apt_upgrades_pending Packages to upgrade.\n# TYPE apt_upgrades_pending gauge\napt_upgrades_pending 12\n", 25*time.Minute)
	drop("temperature.prom", "# HELP room_temperature_celsius Temperature.\n# TYPE room_temperature_celsius gauge\nroom_temperature_celsius{room=\"rack\"} 23,5\n", 3*time.Hour)
	drop("ups.prom", "# HELP ups_battery_ratio Charge.\n# TYPE ups_battery_ratio gauge\nups_battery_ratio 0.98\n", time.Minute)
	return spool
}
