package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

// graphileFolder is graphile/ beside this module's main.go: the benchmark is run from a checkout.
var graphileFolder = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "graphile")
}()

func node(spec string) (*exec.Cmd, error) {
	cmd := exec.Command("node", "run.js", spec)
	cmd.Dir = graphileFolder
	return cmd, nil
}

// installed runs npm install where node_modules is missing.
var installed = func() func(context.Context) error {
	var once sync.Once
	var err error
	return func(ctx context.Context) error {
		once.Do(func() { err = install(ctx) })
		return err
	}
}()

func install(ctx context.Context) error {
	if _, err := exec.LookPath("node"); err != nil {
		return errors.New("node is not on PATH")
	}
	if _, err := os.Stat(filepath.Join(graphileFolder, "node_modules", "graphile-worker")); err == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund")
	cmd.Dir = graphileFolder
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm install failed: %w\n%s", err, out)
	}
	return nil
}
