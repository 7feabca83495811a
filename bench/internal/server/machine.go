package server

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anchor-go/anchor/bench/internal/result"
)

// Describe tells what this machine is, as far as it says so itself.
func Describe(ctx context.Context, p *Postgres) result.Machine {
	m := result.Machine{
		Date: time.Now().UTC().Format(time.DateOnly), CPU: runtime.GOARCH, Cores: runtime.NumCPU(), Kernel: runtime.GOOS,
		Go: strings.TrimPrefix(runtime.Version(), "go"), PostgreSQL: p.Version(ctx), SyncMicros: syncTime(),
	}
	if model := procField("/proc/cpuinfo", "model name"); model != "" {
		m.CPU = model
	}
	if total, err := strconv.ParseFloat(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.MemoryGB = total * 1024 / 1e9
	}
	m.Kernel += " " + firstLine(ctx, "uname", "-r")
	m.Redis = firstLine(ctx, "redis-server", "--version")
	if _, version, ok := strings.Cut(m.Redis, "v="); ok {
		m.Redis, _, _ = strings.Cut(version, " ")
	}
	m.Node = strings.TrimPrefix(firstLine(ctx, "node", "--version"), "v")
	return m
}

func procField(path, name string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// firstLine is what a program prints, "" where there is none.
func firstLine(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// syncTime is the median time to make one page of 8 kB durable, in microseconds, in the folder for temporary
// files, where the cluster is too; 0 when it cannot be found out.
func syncTime() float64 {
	file, err := os.CreateTemp("", "anchor-bench-sync-")
	if err != nil {
		return 0
	}
	defer os.Remove(filepath.Clean(file.Name()))
	defer file.Close()
	page := make([]byte, 8192)
	var times []float64
	for range 200 {
		began := time.Now()
		if _, err := file.WriteAt(page, 0); err != nil {
			return 0
		}
		if err := file.Sync(); err != nil {
			return 0
		}
		times = append(times, float64(time.Since(began).Nanoseconds())/1e3)
	}
	slices.Sort(times)
	return result.Percentile(times, 50)
}
