// Command larder is S3 storage from machines that are many, uneven and not all trusted: gateway, storage node, administration,
// simulator and bench in one binary. This package is flags, wiring and signals; what things do is in the packages below.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set at build time.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "larder",
		Short:         "S3 storage without a master, from machines that need not be trusted",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), devCommand(), adminCommand(), benchCommand())
	if err := root.ExecuteContext(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "larder:", err)
		os.Exit(1)
	}
}
