//go:build unix

package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// maxMessage bounds what is read as one message.
const maxMessage = 64 << 20

// message is one message of PostgreSQL's protocol: its type, 0 for those that open a connection, and its bytes.
type message struct {
	kind byte
	raw  []byte
}

// body is what follows type and length.
func (m message) body() []byte {
	if m.kind == 0 {
		return m.raw[4:]
	}
	return m.raw[5:]
}

// readOpening reads a message without a type.
func readOpening(r io.Reader) (message, error) {
	return read(r, 0, nil)
}

func readMessage(r io.Reader) (message, error) {
	var kind [1]byte
	if _, err := io.ReadFull(r, kind[:]); err != nil {
		return message{}, err
	}
	return read(r, kind[0], kind[:])
}

func read(r io.Reader, kind byte, head []byte) (message, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return message{}, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 4 || n > maxMessage {
		return message{}, fmt.Errorf("a message of %d bytes", n)
	}
	raw := make([]byte, len(head)+int(n))
	copy(raw, head)
	copy(raw[len(head):], length[:])
	if _, err := io.ReadFull(r, raw[len(head)+4:]); err != nil {
		return message{}, err
	}
	return message{kind, raw}, nil
}

// Codes of openings that are no start of a session.
const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

func (m message) code() uint32 {
	if len(m.body()) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(m.body())
}

// text is the zero-terminated text at the beginning of b, and what follows it.
func text(b []byte) (string, []byte) {
	before, after, _ := bytes.Cut(b, []byte{0})
	return string(before), after
}

// statements remembers what the names of a connection stand for.
type statements map[string]string

// sql is the text of the statement that a message of a client asks to run, "" for other messages. A statement is run
// by Query, or by Bind of what an earlier Parse has named: Execute follows it in the same flight.
func (s statements) sql(m message) string {
	switch m.kind {
	case 'Q':
		sql, _ := text(m.body())
		return sql
	case 'P':
		name, rest := text(m.body())
		s[name], _ = text(rest)
	case 'B':
		_, rest := text(m.body())
		name, _ := text(rest)
		return s[name]
	}
	return ""
}
