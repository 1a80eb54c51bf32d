package grouping_test

import (
	"strings"
	"testing"

	"github.com/promspool/promspool/filestore/grouping"
)

func TestParseQuery(t *testing.T) {
	for query, bad := range map[string]string{
		"":                               "",
		"ttl=1s&accumulate=1":            "",
		"match[]={a=%22b%3Bc%22}":        "",
		"&&x&=y":                         "",
		"ttl=1s;accumulate=1":            `"ttl=1s;accumulate=1": separate parameters with &`,
		"a=b&ttl=%zz&c=%":                `"ttl=%zz": write %25`,
		"%=1&ttl=1s":                     `"%=1": write %25`,
		"x=" + strings.Repeat("%", 1000): "…: write %25",
	} {
		values, err := grouping.ParseQuery(query, nil)
		if bad == "" && err != nil || bad != "" && (err == nil || !strings.Contains(err.Error(), bad) || len(err.Error()) > 500) {
			t.Errorf("ParseQuery(%q) fails with %v, want %q", query, err, bad)
		}
		if ttl := values.Get("ttl"); strings.Contains(query, "ttl=1s&") && ttl != "1s" {
			t.Errorf("ParseQuery(%q) has ttl=%q", query, ttl)
		}
	}
	for query, bad := range map[string]bool{
		"token=%zz": false, "token=a;b=c&ttl=1s": false, "%zz": false, "ttl%zz=1": false,
		"ttl=%zz": true, "%74tl=%zz": true, "token=a;ttl=1s": true, "ttl;x": true, "token=%&ttl=%": true,
	} {
		values, err := grouping.ParseQuery(query, func(name string) bool { return name == "ttl" })
		if (err != nil) != bad {
			t.Errorf("ParseQuery(%q) with one known name fails with %v, want an error: %t", query, err, bad)
		}
		if ttl := values.Get("ttl"); strings.HasSuffix(query, "&ttl=1s") && ttl != "1s" {
			t.Errorf("ParseQuery(%q) has ttl=%q", query, ttl)
		}
	}
}
