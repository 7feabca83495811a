package anchor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// jsonb keeps numbers as numeric, which has so many digits before and behind the point.
	maxWholeDigits   = 131072
	maxDecimalDigits = 16383

	// maxPlainDigits is how many digits in a row need no closer look.
	maxPlainDigits = 10_000
)

// checkJSON finds what encoding/json writes and jsonb refuses or Go alters in silence. The common case is one
// pass over the bytes; the pointer is worked out only for what is wrong.
func checkJSON(raw []byte) (pointer, what string) {
	if len(raw) == 0 || raw[0] != '{' {
		return "", "is not a JSON object"
	}
	depth, deepest, digits, inString, suspicious := 0, 0, 0, false, !utf8.Valid(raw)
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			if i+6 <= len(raw) && raw[i+1] == 'u' {
				escape := escapedUnit(raw[i:])
				suspicious = suspicious || escape == 0 || escape == utf8.RuneError || utf16.IsSurrogate(escape)
			}
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c >= '0' && c <= '9':
			digits++
			suspicious = suspicious || digits > maxPlainDigits
			continue
		case (c == 'e' || c == 'E') && digits > 0:
			suspicious = true
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
		digits = 0
	}
	if deepest > maxParamsDepth {
		return "", fmt.Sprintf("nested %d deep, at most %d is allowed", deepest, maxParamsDepth)
	}
	if suspicious {
		return findBadValue(raw)
	}
	return "", ""
}

// findBadValue walks raw, which is valid JSON, to the first string, as a key or a value, or number that jsonb refuses,
// or that encoding/json had to alter: it writes invalid UTF-8 as the escape \ufffd.
func findBadValue(raw []byte) (pointer, what string) {
	type level struct {
		object bool
		key    string
		isKey  bool
		index  int
	}
	var path []level
	locate := func() string {
		var b strings.Builder
		for _, l := range path {
			if l.object {
				b.WriteString("/" + escapePointer(l.key))
			} else {
				b.WriteString("/" + strconv.Itoa(l.index))
			}
		}
		return b.String()
	}
	next := func() {
		if n := len(path); n > 0 {
			path[n-1].index++
			path[n-1].isKey = path[n-1].object
		}
	}
	size := len(raw)
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{', '[':
			path = append(path, level{object: raw[i] == '{', isKey: raw[i] == '{'})
		case '}', ']':
			path = path[:len(path)-1]
		case ',':
			next()
		case '"':
			end := i + 1
			for end < len(raw) && raw[end] != '"' {
				if raw[end] == '\\' {
					end++
				}
				end++
			}
			text := raw[i:min(end+1, len(raw))]
			what = badText(text)
			if n := len(path); n > 0 && path[n-1].isKey {
				path[n-1].isKey = false
				if what != "" {
					path = path[:n-1]
					return locate(), "a key " + what
				}
				var key string
				if json.Unmarshal(text, &key) == nil {
					path[n-1].key = key
				}
			} else if what != "" {
				return locate(), what
			}
			i = end
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			end := i + 1
			for end < len(raw) && strings.IndexByte("+-.eE0123456789", raw[end]) >= 0 {
				end++
			}
			if what := badNumber(string(raw[i:end])); what != "" {
				return locate(), what
			}
			if size += writtenOut(string(raw[i:end])) - (end - i); size > maxParamsSize {
				return locate(), fmt.Sprintf("is a number with which the parameters have more than %d bytes, its digits written out as PostgreSQL does", maxParamsSize)
			}
			i = end - 1
		}
	}
	return "", ""
}

// badText judges one JSON string, quotes included.
func badText(text []byte) string {
	if !utf8.Valid(text) {
		return "holds invalid UTF-8"
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		if i+6 > len(text) || text[i+1] != 'u' {
			i++
			continue
		}
		switch unit := escapedUnit(text[i:]); {
		case unit == 0:
			return "holds a NUL character, which PostgreSQL cannot store"
		case unit == utf8.RuneError:
			return "holds invalid UTF-8"
		case utf16.IsSurrogate(unit):
			if utf16.DecodeRune(unit, escapedUnit(text[i+6:])) == utf8.RuneError {
				return "holds half of a surrogate pair, which is no character"
			}
			i += 6
		}
		i += 5
	}
	return ""
}

// escapedUnit is the UTF-16 code unit of an escape such as \u0041 at the beginning of text, -1 if there is none.
func escapedUnit(text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(unit)
}

// badNumber judges one JSON number.
func badNumber(number string) string {
	const what = "is a number with more digits than PostgreSQL can store"
	mantissa, exponentText, _ := strings.Cut(strings.ToLower(number), "e")
	exponent := 0
	if exponentText != "" {
		var err error
		if exponent, err = strconv.Atoi(exponentText); err != nil || exponent >= 1<<30-1 || exponent <= 1-1<<30 {
			return what
		}
	}
	whole, decimals, _ := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	if len(decimals)-exponent > maxDecimalDigits {
		return what
	}
	digits := whole + decimals
	significant := strings.TrimLeft(digits, "0")
	if significant != "" && len(whole)-(len(digits)-len(significant))+exponent > maxWholeDigits {
		return what
	}
	return ""
}

// lastOfEachKey is a copy of raw, which is valid JSON, in which each key of an object stands once, with the value that
// came last: as jsonb keeps it.
func lastOfEachKey(raw []byte) []byte {
	if !repeatsKey(raw) {
		return bytes.Clone(raw)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return bytes.Clone(raw)
	}
	var written bytes.Buffer
	encoder := json.NewEncoder(&written)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return bytes.Clone(raw)
	}
	return bytes.TrimSpace(written.Bytes())
}

// repeatsKey tells whether an object in raw has a key twice. Of what is not valid JSON it may tell anything.
func repeatsKey(raw []byte) bool {
	var keys [][]byte // of the objects that are open
	var begins []int  // where those of each level begin, -1 for an array
	isKey := false
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{':
			begins, isKey = append(begins, len(keys)), true
		case '[':
			begins, isKey = append(begins, -1), false
		case '}', ']':
			if len(begins) == 0 {
				return false
			}
			begin := begins[len(begins)-1]
			begins, isKey = begins[:len(begins)-1], false
			if begin < 0 {
				continue
			}
			own := keys[begin:]
			slices.SortFunc(own, bytes.Compare)
			if len(slices.CompactFunc(own, bytes.Equal)) < len(own) {
				return true
			}
			keys = keys[:begin]
		case ',':
			isKey = len(begins) > 0 && begins[len(begins)-1] >= 0
		case '"':
			end, escaped := i+1, false
			for end < len(raw) && raw[end] != '"' {
				if raw[end] == '\\' {
					end, escaped = end+1, true
				}
				end++
			}
			if isKey {
				key := raw[i+1 : min(end, len(raw))]
				if escaped {
					key = unescaped(raw[i:min(end+1, len(raw))])
				}
				keys, isKey = append(keys, key), false
			}
			i = end
		}
	}
	return false
}

// unescaped is what a JSON string stands for, quotes included in text.
func unescaped(text []byte) []byte {
	var s string
	if json.Unmarshal(text, &s) != nil {
		return text
	}
	return []byte(s)
}

// writtenOut is how long a number is, that badNumber has passed, without an exponent.
func writtenOut(number string) int {
	mantissa, exponentText, _ := strings.Cut(strings.ToLower(number), "e")
	exponent, _ := strconv.Atoi(exponentText)
	if exponent == 0 {
		return len(number)
	}
	digits := strings.TrimPrefix(mantissa, "-")
	whole, decimals, _ := strings.Cut(digits, ".")
	size := len(mantissa) - len(digits) + 1 // the sign, and a digit before the point
	if strings.Trim(digits, "0.") != "" {
		size += max(len(whole)+exponent-1, 0)
	}
	if behind := len(decimals) - exponent; behind > 0 {
		size += behind + 1
	}
	return size
}

// escapePointer makes a key a part of a JSON pointer.
func escapePointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}
