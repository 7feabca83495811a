package anchor

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxMessage bounds an error's text in the store, in bytes.
const maxMessage = 16 << 10

// maxErrors bounds the errors kept of one task: the newest.
const maxErrors = 100

const hookMessagePrefix = "failure hook: "

// cleanMessage makes an error's text storable: at most 16 KiB of valid UTF-8 without NUL. What is invalid
// becomes U+FFFD, and no character is cut in half.
func cleanMessage(message string) string {
	message = cutMessage(message) // first, so that an enormous text is not copied as a whole
	message = strings.ToValidUTF8(message, "\uFFFD")
	message = strings.ReplaceAll(message, "\x00", "\uFFFD")
	return cutMessage(message) // what was replaced has grown
}

func cutMessage(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	end := maxMessage
	for end > maxMessage-utf8.UTFMax && !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end]
}

// lostAttemptMessage is what is recorded for an attempt whose worker's lease was over.
func lostAttemptMessage(host string, pid int) string {
	return cleanMessage(fmt.Sprintf("anchor: the worker on %s (process %d) stopped responding, this attempt is lost", host, pid))
}
