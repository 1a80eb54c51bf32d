package wording

import "testing"

func TestWording(t *testing.T) {
	for got, want := range map[string]string{
		Bytes(0): "0 B", Bytes(999): "999 B", Bytes(1000): "1.0 kB", Bytes(9_940): "9.9 kB", Bytes(123_456): "123 kB", Bytes(999_600): "1.0 MB", Bytes(16 << 20): "17 MB",
		Visible("ü €\U0001f600 \"q\" \\"): "ü €\U0001f600 \"q\" \\", Visible("a\nb\u202e\xff\u0085"): `a\nb\u202e\xff\u0085`,
		Shorten("äöü", 3): "ä… (6 B)", Shorten("äöü", 6): "äöü", Shorten("\xff\xff\xff", 1): "\xff… (3 B)",
		Count(0, "file"): "0 files", Count(1, "file"): "1 file", Count(-1, "file"): "-1 files",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
