package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the program under test. Set by Main before any test runs.
var binary string

// Main builds the program, runs the tests, and removes what it built. It is what TestMain calls; it does not return.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if binary = os.Getenv("LARDER_BINARY"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "larder-binary-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "larder")
	args := append([]string{"build", "-o", binary}, raceFlag...)
	build := exec.Command("go", append(args, "larder/cmd/larder")...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster: go build:", err)
		return 1
	}
	return m.Run()
}

// Soak says that the tests are to take the time they like (make soak).
func Soak() bool { return os.Getenv("LARDER_SOAK") != "" }
