package anchor

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestCleanMessage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", "connection refused", "connection refused"},
		{"unicode", "größer → 木", "größer → 木"},
		{"invalid", "a\xff\xfeb", "a\uFFFDb"},
		{"NUL", "a\x00b", "a\uFFFDb"},
		{"exactly full", strings.Repeat("x", maxMessage), strings.Repeat("x", maxMessage)},
		{"too long", strings.Repeat("x", maxMessage+1), strings.Repeat("x", maxMessage)},
		{"cut before a character", strings.Repeat("x", maxMessage-2) + "木" + "y", strings.Repeat("x", maxMessage-2)},
		{"cut after a character", strings.Repeat("x", maxMessage-3) + "木" + "y", strings.Repeat("x", maxMessage-3) + "木"},
		{"grows by replacing", strings.Repeat("\x00", maxMessage), strings.Repeat("\uFFFD", maxMessage/3)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, cleanMessage(test.in)); diff != "" {
				t.Errorf("cleanMessage (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzCleanMessage(f *testing.F) {
	f.Add("plain")
	f.Add("\x80\x80\x80\x80")
	f.Add(strings.Repeat("\xf0\x9f\x98\x80", maxMessage/4) + "\xf0")
	f.Add(strings.Repeat("\x80", 2*maxMessage))
	f.Fuzz(func(t *testing.T, in string) {
		out := cleanMessage(in)
		if len(out) > maxMessage || !utf8.ValidString(out) || strings.ContainsRune(out, 0) {
			t.Errorf("cleanMessage left %d bytes, valid %v", len(out), utf8.ValidString(out))
		}
		if again := cleanMessage(out); again != out {
			t.Errorf("cleanMessage is not idempotent")
		}
		if len(in) <= maxMessage && utf8.ValidString(in) && !strings.ContainsRune(in, 0) && out != in {
			t.Errorf("cleanMessage changed a clean message")
		}
	})
}
