//go:build unix

package chaos

import (
	"bufio"
	"io"
	"os"
	"strings"
	"sync"
)

// serverLog reads the log of a server as it grows. It is safe for concurrent use.
type serverLog struct {
	path string

	mu     sync.Mutex
	offset int64
	errors map[string][]logged // by database
}

// logged is a line of level ERROR, FATAL or PANIC.
type logged struct{ state, text string }

// of are the errors that were logged for a database.
func (l *serverLog) of(database string) ([]logged, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.errors == nil {
		l.errors = map[string][]logged{}
	}
	file, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(l.offset, io.SeekStart); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadString('\n')
		if err == io.EOF {
			return l.errors[database], nil // what is half-written is read next time
		}
		if err != nil {
			return nil, err
		}
		l.offset += int64(len(line))
		l.add(strings.TrimSpace(line))
	}
}

// add reads a line: date, time, zone, process, SQLSTATE, database, application (with the level at its end), and text.
func (l *serverLog) add(line string) {
	fields := strings.Fields(line)
	if len(fields) < 7 || len(fields[4]) != 5 {
		return
	}
	for _, level := range []string{"ERROR:  ", "FATAL:  ", "PANIC:  "} {
		if _, text, ok := strings.Cut(line, level); ok {
			l.errors[fields[5]] = append(l.errors[fields[5]], logged{fields[4], strings.TrimSpace(level) + " " + text})
			return
		}
	}
}
