package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// settings are the flags of serve (design.md §10). Each is also LARDER_NAME in the environment and a key in the YAML file of
// --config; a flag wins over the environment, and that over the file.
type settings struct {
	data, s3, overlay, advertise, admin, ticket string
	join                                        []string
	capacity                                    string
	zone, host, region, domain                  string
	tlsCert, tlsKey                             string
	leafSetSize                                 int
	logLevel                                    string
	replaceAfter, repairAfter                   time.Duration
	clockOffset, auditAfter, trashAfter         time.Duration
}

// bind declares the flags.
func (s *settings) bind(f *pflag.FlagSet) {
	f.StringVar(&s.data, "data", "./larder-data", "directory of this node's keys and data")
	f.StringVar(&s.s3, "s3", "127.0.0.1:9000", "address to serve S3 on; empty: no gateway")
	f.StringVar(&s.overlay, "overlay", "127.0.0.1:7000", "UDP address for other nodes")
	f.StringVar(&s.advertise, "advertise", "", "where other nodes reach this one, if not at --overlay")
	f.StringVar(&s.admin, "admin", "127.0.0.1:9001", "address of the admin HTTP server")
	f.StringSliceVar(&s.join, "join", nil, "overlay addresses of nodes of the realm to join; without it a new realm is founded, or the one in --data resumed")
	f.StringVar(&s.ticket, "ticket", "", "file with a ticket of the realm to join (larder admin ticket)")
	f.StringVar(&s.capacity, "capacity", "", "bytes to offer, such as 500GiB; 0: no storage (default: the file system's size)")
	f.StringVar(&s.zone, "zone", "", "name of the zone that this node fails with")
	f.StringVar(&s.host, "host", "", "name of the machine, where several nodes share one")
	f.IntVar(&s.leafSetSize, "leaf-set-size", 32, "size of Pastry's leaf set, |L|")
	f.StringVar(&s.region, "region", "us-east-1", "S3 region")
	f.StringVar(&s.domain, "domain", "", "domain of virtual-host style requests")
	f.StringVar(&s.tlsCert, "tls-cert", "", "certificate for S3, PEM; read again when it changes")
	f.StringVar(&s.tlsKey, "tls-key", "", "key for S3, PEM")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&s.replaceAfter, "replace-after", 3*time.Minute, "how long a partition member is missed before another takes its place")
	f.DurationVar(&s.repairAfter, "repair-after", time.Minute, "how long a node is missed before its fragments are made again")
	f.DurationVar(&s.clockOffset, "clock-offset", 0, "shift this process's clock, for tests of skewed clocks")
	_ = f.MarkHidden("clock-offset")
	f.DurationVar(&s.auditAfter, "audit-after", 48*time.Hour, "how old bytes must be before they may be taken for garbage, the same at all gateways; a body has half of it to be stored; for tests")
	_ = f.MarkHidden("audit-after")
	f.DurationVar(&s.trashAfter, "trash-after", 24*time.Hour, "how long what was overwritten or deleted stays readable for those who began to read it; for tests")
	_ = f.MarkHidden("trash-after")
	f.String("config", "", "YAML file with these settings")
}

// fill takes what no flag said from the environment and the file.
func fill(cmd *cobra.Command) error {
	file := map[string]any{}
	path, _ := cmd.Flags().GetString("config")
	if path == "" {
		path = os.Getenv("LARDER_CONFIG")
	}
	if path != "" {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = yaml.Unmarshal(raw, &file)
		}
		if err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	for name := range file {
		if cmd.Flags().Lookup(name) == nil {
			return fmt.Errorf("config: %s: unknown setting %q", path, name)
		}
	}
	var bad error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || bad != nil {
			return
		}
		value, ok := os.LookupEnv("LARDER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
		if v, inFile := file[f.Name]; !ok && inFile {
			ok, value = true, yamlText(v)
		}
		if ok {
			if err := f.Value.Set(value); err != nil {
				bad = fmt.Errorf("setting %s: %w", f.Name, err)
			}
		}
	})
	return bad
}

// yamlText is a scalar, or a list with commas.
func yamlText(v any) string {
	if list, ok := v.([]any); ok {
		words := make([]string, len(list))
		for i, w := range list {
			words[i] = fmt.Sprint(w)
		}
		return strings.Join(words, ",")
	}
	return fmt.Sprint(v)
}

// sizeUnits are the suffixes of sizes, largest first.
var sizeUnits = []struct {
	suffix string
	bytes  float64
}{
	{"PIB", 1 << 50}, {"TIB", 1 << 40}, {"GIB", 1 << 30}, {"MIB", 1 << 20}, {"KIB", 1 << 10},
	{"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3},
	{"P", 1 << 50}, {"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
}

// parseSize reads a number of bytes with an optional unit: 500GiB, 500G (the same), 500GB (10⁹).
func parseSize(text string) (int64, error) {
	s, unit := strings.ToUpper(strings.TrimSpace(text)), 1.0
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || n < 0 || n*unit > 1<<62 {
		return 0, fmt.Errorf("%q is not a size, such as 500GiB", text)
	}
	return int64(n * unit), nil
}
