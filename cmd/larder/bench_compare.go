package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"larder/bench"

	"github.com/spf13/cobra"
)

// benchCompareCommand puts results beside each other.
func benchCompareCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compare FILE.json ...",
		Short: "put what bench --json printed side by side, with ratios to the last",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, files []string) error {
			var columns []bench.Column
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					return err
				}
				c := bench.Column{Name: strings.TrimSuffix(filepath.Base(file), ".json")}
				if err := json.Unmarshal(b, &c.Results); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
				columns = append(columns, c)
			}
			return bench.Compare(os.Stdout, columns)
		},
	}
}
