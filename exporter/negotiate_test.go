package exporter_test

import (
	"strings"
	"testing"
)

func TestAcceptEncoding(t *testing.T) {
	e := serve(t, files{"a.prom": "a 1\n"}, nil)
	for header, want := range map[string]string{
		"":                                 "",
		"gzip":                             "gzip",
		"GZIP":                             "gzip",
		"x-gzip":                           "gzip",
		" deflate , gzip;q=0.5 ":           "gzip",
		"gzip;q=0":                         "",
		"gzip;q=0.000":                     "",
		"gzip; q=0, *":                     "",
		"gzip;q=wrong":                     "",
		"gzip;q=2":                         "",
		"gzip;x=y;Q=0.001":                 "gzip",
		"*":                                "",
		"*;q=0":                            "",
		"*;q=0, gzip":                      "gzip",
		"identity;q=0, *":                  "gzip",
		"identity;q=0, *;q=0":              "",
		"identity;q=0":                     "",
		"identity;q=0, gzip;q=0, *;q=0.5":  "zstd",
		"identity":                         "",
		"identity, gzip;q=0.5":             "",
		"identity;q=0.5, gzip":             "gzip",
		"gzip, identity":                   "gzip",
		"br":                               "",
		"zstd":                             "zstd",
		"gzip, zstd":                       "gzip",
		"zstd, gzip;q=0.9":                 "zstd",
		"gzip;q=0.9, zstd;q=0.8":           "gzip",
		"gzip;q=0, zstd;q=0.1":             "zstd",
		",,;;,gzip;,":                      "gzip",
		"gzipp, zstdd, igzip":              "",
		"deflate, gzip, br, zstd, dcb;q=1": "gzip",
	} {
		if got := get(e.Metrics, "/", "Accept-Encoding", header).Header().Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q gives %q, want %q", header, got, want)
		}
	}
	if got := get(e.Metrics, "/", "Accept-Encoding", "br", "Accept-Encoding", "gzip").Header().Get("Content-Encoding"); got != "gzip" {
		t.Errorf("a second header line is not read")
	}
}

// No header makes trouble, and nothing is sent that was not allowed.
func FuzzAcceptEncoding(f *testing.F) {
	for _, s := range []string{"gzip", "gzip;q=0, *", "identity;q=0,*;q=0.5", "zstd;q=1.0;x, gzip;q=", ";q=,,"} {
		f.Add(s)
	}
	e := serve(f, files{"a.prom": "a 1\n"}, nil)
	f.Fuzz(func(t *testing.T, header string) {
		w := get(e.Metrics, "/", "Accept-Encoding", header)
		got := w.Header().Get("Content-Encoding")
		if w.Code != 200 || got != "" && got != "gzip" && got != "zstd" {
			t.Fatalf("Accept-Encoding %q gives %d %q", header, w.Code, got)
		}
		if got != "" && !strings.Contains(strings.ToLower(header), got) && !strings.Contains(header, "*") {
			t.Fatalf("Accept-Encoding %q gives %q, which is not in it", header, got)
		}
	})
}
