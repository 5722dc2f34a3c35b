package main

import "testing"

func TestParseSize(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want int64 // 0: an error
	}{
		{"256MiB", 256 << 20},
		{"256mib", 256 << 20},
		{"1GiB", 1 << 30},
		{"1.5 GiB", 3 << 29},
		{"4096KiB", 4 << 20},
		{"5000KB", 5_000_000},
		{"64MB", 64_000_000},
		{"1TiB", 1 << 40},
		{"1TB", 1e12},
		{"4194304", 4 << 20},
		{"4194304B", 4 << 20},
		{"4194303", 0},
		{"1.1TiB", 0},
		{"1099511627777", 0},
		{"", 0},
		{"MiB", 0},
		{" 5MiB", 0},
		{"5  MiB", 0},
		{"5MiB ", 0},
		{"-5MiB", 0},
		{"+5MiB", 0},
		{"5,5MiB", 0},
		{"5.MiB", 0},
		{".5GiB", 0},
		{"5.5.5MiB", 0},
		{"1e9", 0},
		{"0x1000000", 0},
		{"5_000_000", 0},
		{"NaN", 0},
		{"Inf", 0},
		{"5Mi", 0},
		{"5M", 0},
		{"5EiB", 0},
		{"999999999999999999999999999999TiB", 0},
		{"٥MiB", 0},
	} {
		got, err := parseSize(tt.s)
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%q: %d, %v; want %d", tt.s, got, err, tt.want)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for _, tt := range []struct {
		n    float64
		want string
	}{
		{0, "0 B"}, {1, "1 B"}, {1023, "1023 B"}, {1 << 10, "1 KiB"}, {1536, "1.5 KiB"},
		{256 << 20, "256 MiB"}, {1<<30 - 1, "1024 MiB"}, {3 << 29, "1.5 GiB"}, {1 << 40, "1 TiB"}, {1 << 52, "4096 TiB"},
	} {
		if got := formatSize(tt.n); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.n, got, tt.want)
		}
	}
}
