package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain, ünïcode, 世界":                     "plain, ünïcode, 世界",
		"a\tb":                                   "a    b",
		"\x1b[31mred\u009b0m":                    "·[31mred·0m",
		"pay\u202eevil\u2066x":                   "pay·evil·x",
		"in\u200bvis\u2060i\ufeffble\u00ad":      "in·vis·i·ble·",
		"tag\U000e0041s":                         "tag·s",
		"filler\u3164":                           "filler·",
		"👩\u200d🚀 می\u200cخواهم":                 "👩\u200d🚀 می\u200cخواهم",
		"\u0301first":                            "·first",
		"cafe\u0301":                             "cafe\u0301",
		"a" + strings.Repeat("\u0301", 99) + "b": "a" + strings.Repeat("\u0301", maxMarks) + "·b",
		"not\xffUTF-8":                           "not·UTF-8",
	} {
		if got := Line(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Name("a\u200db\u00a0c\u2003d"); got != "a·b c d" {
		t.Errorf("%q", got)
	}
}

func TestFileName(t *testing.T) {
	for in, want := range map[string]string{
		"notes.txt": "notes.txt", "../../etc/passwd": "_.._etc_passwd", ".bashrc": "bashrc", "..": "file", "": "file",
		`C:\x`: "C__x", "-rf": "_-rf", "nul.txt": "_nul.txt", "COM1": "_COM1", "com.txt": "com.txt", " x ": "x",
		"photo\u202egpj.exe": "photo·gpj.exe", strings.Repeat("é", 300): strings.Repeat("é", 90),
	} {
		if got := FileName(in, 180); got != want || !utf8.ValidString(got) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
