package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"larder/bench"

	"github.com/spf13/cobra"
)

// benchSettings are the flags of bench.
type benchSettings struct {
	cfg     bench.Config
	loads   string
	profile string // file
	json    bool
}

func benchCommand() *cobra.Command {
	var s benchSettings
	cmd := &cobra.Command{
		Use:   "bench --endpoint URL",
		Short: "load an S3 endpoint: throughput, latency percentiles, errors",
		Long: "Loads any S3 endpoint and prints requests a second (4 KiB, LIST, DELETE) or MiB a second (larger bodies), and latency percentiles.\n" +
			"Bodies go as UNSIGNED-PAYLOAD, which S3 allows, unless --sign-body is given. Credentials come from the flags, from --profile,\n" +
			"or from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.run(cmd.Context())
		},
	}
	cmd.AddCommand(benchCompareCommand())
	f := cmd.Flags()
	f.StringVar(&s.cfg.Endpoint, "endpoint", "http://127.0.0.1:9000", "URL of the S3 endpoint")
	f.StringVar(&s.cfg.AccessKey, "access-key", os.Getenv("AWS_ACCESS_KEY_ID"), "access key")
	f.StringVar(&s.cfg.SecretKey, "secret-key", "", "secret key (default: AWS_SECRET_ACCESS_KEY)")
	f.StringVar(&s.profile, "profile", "", "credentials file, such as DIR/credentials; its first profile is used")
	f.StringVar(&s.cfg.Region, "region", "us-east-1", "S3 region")
	f.StringVar(&s.cfg.Bucket, "bucket", "larder-bench", "bucket; made, and removed at the end, if it is not there")
	f.DurationVar(&s.cfg.Duration, "duration", 5*time.Second, "how long each load runs")
	f.StringVar(&s.loads, "loads", bench.Standard, "loads, in order; also put1g and get1g")
	f.BoolVar(&s.cfg.SignBody, "sign-body", false, "sign bodies by their SHA-256")
	f.BoolVar(&s.cfg.Verify, "verify", false, "compare the bodies that are read with those that were put")
	f.BoolVar(&s.cfg.Insecure, "insecure", false, "take any TLS certificate")
	f.BoolVar(&s.cfg.Keep, "keep", false, "leave the objects")
	f.IntSliceVar(&s.cfg.PIDs, "pid", nil, "processes of the server, if it runs here: prints their processor time per request")
	f.BoolVar(&s.json, "json", false, "print JSON")
	return cmd
}

func (s *benchSettings) run(ctx context.Context) (err error) {
	if s.cfg.Loads, err = bench.ParseLoads(s.loads); err != nil {
		return err
	}
	if s.cfg.SecretKey == "" {
		s.cfg.SecretKey = os.Getenv("AWS_SECRET_ACCESS_KEY")
	}
	if s.profile != "" {
		if s.cfg.AccessKey, s.cfg.SecretKey, err = readProfile(s.profile); err != nil {
			return err
		}
	}
	if s.cfg.AccessKey == "" || s.cfg.SecretKey == "" {
		return errors.New("no credentials: give --profile, or --access-key and --secret-key")
	}
	runner, err := bench.New(ctx, s.cfg)
	if err != nil {
		return err
	}
	results, err := runner.Run(ctx)
	if s.json {
		err = errors.Join(err, json.NewEncoder(os.Stdout).Encode(results))
	} else {
		err = errors.Join(err, bench.Print(os.Stdout, results))
	}
	// What was put goes even after an interrupt; a second one ends that, too.
	clean, stop := signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if cleanErr := runner.Close(clean); cleanErr != nil {
		err = errors.Join(err, fmt.Errorf("clean up: %w", cleanErr))
	}
	return err
}

// readProfile reads the first profile of a shared-credentials file.
func readProfile(path string) (access, secret string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() && (access == "" || secret == "") {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			access = strings.TrimSpace(value)
		case "aws_secret_access_key":
			secret = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return "", "", err
	}
	if access == "" || secret == "" {
		return "", "", fmt.Errorf("%s: no access key in it", path)
	}
	return access, secret, nil
}
