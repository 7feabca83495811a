package anchor

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/anchor-go/anchor/internal/testdb"
)

// What is accepted can be stored, and what is refused could not be, but for text that encoding/json has altered.
func TestCheckJSONAgreesWithPostgreSQL(t *testing.T) {
	t.Parallel()

	conn, err := pgx.Connect(t.Context(), testdb.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())

	zeros := func(n int) string { return strings.Repeat("0", n) }
	for _, value := range []string{
		"0", "-0", "0e0", "1e5", "1E+5", "-1.5e-5", "1e131071", "1e131072", "-1e131072", "12e131070", "12e131071",
		"9." + zeros(10) + "e131071", "0.1e131072", "0.1e131073", "0.0001e131075", "0.0001e131076",
		"1e-16383", "1e-16384", "0.5e-16382", "0.5e-16383", "1.0e-16383", "1e400000", "1e-400000",
		"0e131072", "0e400000", "0.0e400000", "0e-16383", "0e-16384", "0e-400000",
		"1" + zeros(131071), "1" + zeros(131072), "1." + zeros(16383), "1." + zeros(16384), "1." + zeros(16384) + "e1",
		"1e1073741822", "1e1073741823", "0e1073741822", "0e1073741823", "0e99999999999999999999", "1e99999999999999999999",
		`"\u0000"`, `"\\u0000"`, `"\\\u0000"`, `"\u0001"`, `"\ud83d\ude00"`, `"\uD83D\uDE00"`, `"\ud83d"`, `"\ude00"`, `"\ude00\ud83d"`,
		`"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\\ude00"`, `"\ud83d\ud83d\ude00"`, `"\ud83d\ude00\ude00"`, "\"\xff\"", "\"\xed\xa0\x80\"",
		`"\"\\\/\b\f\n\r\t"`, `true`, `false`, `null`, `[1e5,true,"e1"]`, `{"1e400000":1}`, `{"\ud800":1}`,
	} {
		raw := `{"v":` + value + `}`
		_, refused := conn.Exec(t.Context(), "select $1::text::jsonb", raw)
		if _, what := checkJSON([]byte(raw)); (what != "") != (refused != nil) {
			t.Errorf("%.60s (%d bytes): checkJSON says %q, PostgreSQL %v", value, len(value), what, refused)
		}
	}
}

// jsonb writes numbers out: a few bytes become more than a worker should hold.
func TestNumbersCountAsTheyAreWrittenOut(t *testing.T) {
	t.Parallel()
	eight := strings.Repeat(",1e131071", 8)[1:]
	for raw, want := range map[string]string{
		`{"a":[` + eight + `]}`:         "/a/7",
		`{"a":1e131071}`:                "",
		`{"a":1.5e3,"b":-2E-5,"c":0e9}`: "",
		`{"a":{"b~":[0,` + strings.Repeat(",1e-16383", 64)[1:] + `]}}`: "/a/b~0/64",
	} {
		pointer, what := checkJSON([]byte(raw))
		if pointer != want || (what != "") != (want != "") {
			t.Errorf("%.40q...: %q at %q, want something at %q", raw, what, pointer, want)
		}
	}
	for number, want := range map[string]int{"1e3": 4, "12.5e1": 3, "-1.25e-3": 8, "0e10": 1, "7": 1} {
		if got := writtenOut(number); got != want {
			t.Errorf("%s is %d bytes written out, want %d", number, got, want)
		}
	}
}
