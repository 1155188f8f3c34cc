package main

import "github.com/spf13/cobra"

func adminCommand() *cobra.Command {
	return &cobra.Command{Use: "admin", Short: "look at and change a running realm"}
}
