package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"larder/admin"

	"github.com/spf13/cobra"
)

func (o *operator) scrubCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "scrub", Short: "read and check everything on this node's disk now", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAdminClient(o.address)
			if err != nil {
				return err
			}
			s := &scrubber{out: cmd.OutOrStdout(), progress: cmd.ErrOrStderr(), asJSON: o.asJSON}
			if !all {
				return s.one(cmd.Context(), c, "")
			}
			return s.all(cmd.Context(), c)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every storage node, one after the other, by the admin addresses that they announce")
	return cmd
}

// scrubber runs scrubs and says how they go.
type scrubber struct {
	out, progress io.Writer
	asJSON        bool
}

// all scrubs every storage node, and goes on where one cannot be.
func (s *scrubber) all(ctx context.Context, c *adminClient) error {
	var nodes []admin.Node
	if _, err := c.do(ctx, http.MethodGet, "/v1/nodes", nil, &nodes); err != nil {
		return err
	}
	var failed error
	for _, n := range nodes {
		if n.CapacityBytes == 0 {
			continue
		}
		err := func() error {
			if n.Self {
				return s.one(ctx, c, n.Node.String())
			}
			other, err := newAdminClient(n.Admin)
			if err != nil {
				return err
			}
			return s.one(ctx, other, n.Node.String())
		}()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("node %s: %w", admin.Short(n.Node), err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}

// one scrubs the node at c, if it is the one that is meant.
func (s *scrubber) one(ctx context.Context, c *adminClient, node string) error {
	path := "/v1/scrub"
	if node != "" {
		path += "?" + url.Values{"node": {node}}.Encode()
	}
	res, err := c.send(ctx, http.MethodPost, path, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var line admin.Scrub
	for d := json.NewDecoder(res.Body); !line.Done; {
		if err := d.Decode(&line); err != nil {
			return fmt.Errorf("scrub cut off: %w", err)
		}
		if !line.Done {
			fmt.Fprintf(s.progress, "node %s: scrubbing %d fragments, %.0f s\n", admin.Short(line.Node), line.ToRead, line.Seconds)
		}
	}
	if s.asJSON {
		err = json.NewEncoder(s.out).Encode(&line)
	} else {
		printScrub(s.out, line)
	}
	switch {
	case line.Error != "":
		return errors.New(line.Error)
	case line.Corrupt > line.Mended:
		return fmt.Errorf("%d corrupt fragments could not be mended yet; repair goes on trying", line.Corrupt-line.Mended)
	}
	return err
}
