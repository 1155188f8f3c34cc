package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"larder/admin"
)

// printJSON prints an answer as it came, indented.
func printJSON(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}

// table prints rows in columns.
func table(w io.Writer, header string, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(header, " ", "\t"))
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, clean(fmt.Sprint(c)))
		}
		fmt.Fprintln(t)
	})
	_ = t.Flush()
}

// clean makes text that others chose fit for a terminal's column: no empty cell, no control characters.
func clean(text string) string {
	if text == "" {
		return "-"
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func numbers(all []int) string {
	words := make([]string, len(all))
	for i, n := range all {
		words[i] = strconv.Itoa(n)
	}
	return strings.Join(words, ",")
}

func printStatus(w io.Writer, s admin.Status) {
	fmt.Fprintln(w, s.State)
	for _, reason := range s.Reasons {
		fmt.Fprintf(w, "  %s\n", clean(reason))
	}
	if s.State != admin.Whole {
		fmt.Fprintf(w, "progress    %d of %d fragments as they should be (%.1f %%)\n", s.Progress.Done, s.Progress.Total, s.Progress.Percent)
	}
	fmt.Fprintf(w, "nodes       %d live (%d storage, %d gateways), %d silent\n", s.Nodes, s.StorageNodes, s.Gateways, s.Silent)
	if s.Scope != "ring" {
		fmt.Fprintf(w, "ring        about %.0f nodes; this node sees its leaf set alone\n", s.RingSize)
	}
	fmt.Fprintf(w, "capacity    %s, %s used, %s free\n", size(s.CapacityBytes), size(s.UsedBytes), size(s.FreeBytes))
	fmt.Fprintf(w, "partitions  %d, %d degraded\n", s.Partitions.Total, s.Partitions.Degraded)
	f := s.Fragments
	fmt.Fprintf(w, "fragments   %d, %d missing, %d debts, %d corrupt; %d of %d checked\n", f.Total, f.Missing, f.Debts, f.Corrupt, f.Checked, f.ToCheck)
	fmt.Fprintf(w, "routes      %d, %d of two hops or more\n", s.Lookups.Total, s.Lookups.Far)
	if a := s.Audit; a != nil && a.Passes > 0 {
		fmt.Fprintf(w, "audit       %d stripes that nothing referred to given back, %d undecided; last pass ended %s\n", a.ReclaimedStripes, a.Undecided, a.PassEnded.UTC().Format(time.RFC3339))
	}
}

func printNodes(w io.Writer, nodes []admin.Node) {
	table(w, "NODE LIVE ROLES ZONE/HOST ADDRESS S3 CAPACITY USED FRAGMENTS BLOCKS RTT BOOT VERSION", func(row func(...any)) {
		for _, n := range nodes {
			name, place, rtt := admin.Short(n.Node), n.Zone, "-"
			if n.Self {
				name += "*"
			}
			if n.Host != "" {
				place += "/" + n.Host
			}
			if n.RTTMicros >= 0 && !n.Self {
				rtt = (time.Duration(n.RTTMicros) * time.Microsecond).String()
			}
			row(name, yes(n.Live), strings.Join(n.Roles, ","), place, n.Address, n.S3, size(n.CapacityBytes), size(n.UsedBytes), n.Blocks.Fragments, blocksWord(&n), rtt, n.Boot, n.Version)
		}
	})
}

// blocksWord is how a node's blocks are.
func blocksWord(n *admin.Node) string {
	b := &n.Blocks
	switch {
	case n.CapacityBytes == 0:
		return "none"
	case b.Corrupt > 0:
		return fmt.Sprintf("%d corrupt", b.Corrupt)
	case b.Whole:
		return "whole"
	case b.Missing > 0:
		return fmt.Sprintf("%d missing", b.Missing)
	case b.Checked < b.ToCheck:
		return fmt.Sprintf("%d/%d checked", b.Checked, b.ToCheck)
	}
	return "unchecked"
}

func printRing(w io.Writer, r admin.Ring) {
	fmt.Fprintf(w, "node          %s at %s, ready: %s\n", r.Node, r.Address, yes(r.Ready))
	fmt.Fprintf(w, "ring          about %.0f nodes; %d in the leaf set and this one\n", r.RingSize, r.Nodes)
	for _, list := range []struct {
		name string
		all  []admin.Neighbour
	}{{"smaller", r.Smaller}, {"larger", r.Larger}, {"neighborhood", r.Neighborhood}} {
		words := make([]string, len(list.all))
		for i, n := range list.all {
			words[i] = admin.Short(n.Node)
		}
		fmt.Fprintf(w, "%-13s %s\n", list.name, clean(strings.Join(words, " ")))
	}
	fmt.Fprintf(w, "rows filled   %s\n", clean(numbers(r.RowsFilled)))
	fmt.Fprintf(w, "lookups      ")
	for hops, n := range r.LookupsByHops {
		if n > 0 {
			fmt.Fprintf(w, " %d hops: %d;", hops, n)
		}
	}
	fmt.Fprintf(w, " two or more: %d; %d lost\n", r.FarLookups, r.LookupsLost)
	fmt.Fprintf(w, "routed        %d delivered, %d forwarded, %d rerouted\n", r.Delivered, r.Forwarded, r.Rerouted)
	fmt.Fprintf(w, "failures      %d nodes declared failed, %d returned\n", r.Failures, r.Returned)
	kinds := map[string]bool{}
	for kind := range r.Sent {
		kinds[kind] = true
	}
	for kind := range r.Received {
		kinds[kind] = true
	}
	table(w, "MESSAGE SENT RECEIVED", func(row func(...any)) {
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			row(kind, r.Sent[kind], r.Received[kind])
		}
	})
}

func printPartitions(w io.Writer, all []admin.Partition) {
	table(w, "PARTITION BUCKET EPOCH K MEMBERS", func(row func(...any)) {
		for _, p := range all {
			bucket := p.Bucket
			switch {
			case p.System:
				bucket = "(system)"
			case bucket == "":
				bucket = p.BucketID[:min(8, len(p.BucketID))]
			}
			if p.Closed {
				bucket += " (closed)"
			}
			members := make([]string, len(p.Members))
			for i, m := range p.Members {
				members[i] = admin.Short(m.Node)
				if !m.Active {
					members[i] += "(not active)"
				}
			}
			row(p.Partition[:min(8, len(p.Partition))], bucket, p.Epoch, p.K, strings.Join(members, " "))
		}
	})
}

func printObject(w io.Writer, o admin.Object) {
	fmt.Fprintf(w, "object    %s/%s\n", o.Bucket, clean(o.Key))
	fmt.Fprintf(w, "size      %d bytes (%s)\n", o.Size, size(o.Size))
	fmt.Fprintf(w, "etag      %s\n", o.ETag)
	fmt.Fprintf(w, "modified  %s\n", o.Modified)
	fmt.Fprintf(w, "owner     %s\n", clean(o.Owner))
	if o.Inline {
		fmt.Fprintln(w, "bytes     in the record")
	}
	if len(o.Parts) > 0 {
		fmt.Fprintf(w, "parts     %d\n", len(o.Parts))
		table(w, "PART SIZE ETAG", func(row func(...any)) {
			for _, p := range o.Parts {
				row(p.Number, p.Size, p.ETag)
			}
		})
	}
	if len(o.Stripes) == 0 {
		return
	}
	table(w, "STRIPE PART BLOCK LENGTH D+P MISSING FRAGMENTS", func(row func(...any)) {
		for _, s := range o.Stripes {
			row(fmt.Sprintf("%s %d", s.Kind, s.Number&(1<<56-1)), s.Part, s.Block[:min(8, len(s.Block))], s.Length, fmt.Sprintf("%d+%d", s.Data, s.Parity), numbers(s.Missing), holders(&s))
		}
	})
	if o.Truncated {
		fmt.Fprintf(w, "only the first %d stripes are shown\n", len(o.Stripes))
	}
}

// holders is who has which fragments of a stripe.
func holders(s *admin.ObjectStripe) string {
	var words []string
	for _, h := range s.Holders {
		word := admin.Short(h.Node) + ":" + numbers(h.Live)
		if len(h.Trashed) > 0 {
			word += "(trash:" + numbers(h.Trashed) + ")"
		}
		words = append(words, word)
	}
	for _, id := range s.Silent {
		words = append(words, id[:min(8, len(id))]+":?")
	}
	return strings.Join(words, " ")
}

func printUsers(w io.Writer, all []admin.User) {
	table(w, "USER ROLE CREATED", func(row func(...any)) {
		for _, u := range all {
			row(u.Name, u.Role, u.Created.UTC().Format(time.RFC3339))
		}
	})
}

// printKey prints a key pair, this once.
func printKey(w io.Writer, k admin.Key) {
	fmt.Fprintf(w, "user        %s (%s)\naccess key  %s\nsecret key  %s\n", k.User, k.Role, k.AccessKey, k.SecretKey)
	fmt.Fprintln(w, "The secret key is not shown again.")
}

func printKeys(w io.Writer, all []admin.Key) {
	table(w, "ACCESSKEY USER", func(row func(...any)) {
		for _, k := range all {
			row(k.AccessKey, k.User)
		}
	})
}

func printBuckets(w io.Writer, all []admin.Bucket) {
	table(w, "BUCKET OWNER REGION CREATED", func(row func(...any)) {
		for _, b := range all {
			row(b.Name, b.Owner, b.Region, b.Created.UTC().Format(time.RFC3339))
		}
	})
}

func printScrub(w io.Writer, s admin.Scrub) {
	fmt.Fprintf(w, "node %s: %d fragments (%s) and %d register rows read in %.1f s: %d corrupt, %d mended\n",
		admin.Short(s.Node), s.Fragments, size(s.Bytes), s.Rows, s.Seconds, s.Corrupt, s.Mended)
}
