//go:build unix

// Command worker is the worker process of the fault tests, built by them with the tag chaos.
package main

import (
	"fmt"
	"os"

	"github.com/anchor-go/anchor/internal/chaos"
)

func main() {
	if err := chaos.RunWorker(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}
