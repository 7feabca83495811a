package testdb

import (
	"fmt"
	"strings"
)

// Option changes how [Start] sets up a cluster.
type Option interface {
	apply(*config)
	fmt.Stringer
}

type config struct {
	settings []string
	tcp      bool
}

type settingsOption []string

// WithSettings adds lines of postgresql.conf such as "max_connections=200";
// the last of one name counts. Defaults to the settings of a careful server
// (fsync and full_page_writes on) with 300 connections and 256 MB of shared
// buffers.
func WithSettings(settings ...string) Option { return settingsOption(settings) }

func (o settingsOption) apply(c *config) { c.settings = append(c.settings, o...) }
func (o settingsOption) String() string {
	return "WithSettings(" + strings.Join(o, ", ") + ")"
}

type tcpOption struct{}

// WithTCP makes the cluster listen on a free port of 127.0.0.1 too, and URL
// name that address. Defaults to a unix socket only.
func WithTCP() Option { return tcpOption{} }

func (tcpOption) apply(c *config) { c.tcp = true }
func (tcpOption) String() string  { return "WithTCP()" }

// configuration is the text that follows what initdb wrote to postgresql.conf.
func configuration(folder string, port int, c config) (string, error) {
	listen := ""
	if c.tcp {
		listen = "127.0.0.1"
	}
	settings := append([]string{
		"listen_addresses=" + listen,
		fmt.Sprintf("port=%d", port),
		"unix_socket_directories=" + folder,
		"max_connections=300",
		"shared_buffers=256MB",
		"max_wal_size=2GB",
		// Other kinds of shared memory would survive a server that was killed.
		"dynamic_shared_memory_type=mmap",
		"timezone=UTC",
		"log_timezone=UTC",
		// %e is the SQLSTATE, for tests that search the log for unexpected ones.
		"log_line_prefix=%m [%p] %e %q%d %a ",
	}, c.settings...)

	var text strings.Builder
	for _, setting := range settings {
		name, value, ok := strings.Cut(setting, "=")
		if !ok {
			return "", fmt.Errorf("setting %q is not of the form name=value", setting)
		}
		value = strings.ReplaceAll(strings.TrimSpace(value), "'", "''")
		fmt.Fprintf(&text, "%s = '%s'\n", strings.TrimSpace(name), value)
	}
	return text.String(), nil
}
