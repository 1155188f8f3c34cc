package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// devNode is one entry of DIR/dev.json (design.md §10).
type devNode struct {
	PID   int    `json:"pid"`
	S3    string `json:"s3"`
	Admin string `json:"admin"`
	Node  string `json:"node"`
	Data  string `json:"data"`
}

func devCommand() *cobra.Command {
	var s settings
	var nodes, s3Base int
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "run N real processes on loopback, one realm",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fill(cmd); err != nil {
				return err
			}
			if nodes < 1 {
				return errors.New("--nodes must be at least 1")
			}
			d := &dev{dir: s.data, base: s3Base, pass: passOn(cmd), leafSetSize: s.leafSetSize}
			return d.run(cmd.Context(), nodes)
		},
	}
	s.bind(cmd.Flags())
	cmd.Flags().IntVar(&nodes, "nodes", 5, "number of nodes")
	cmd.Flags().IntVar(&s3Base, "s3-base-port", 9000, "S3 port of the first node; node i serves on this + i")
	return cmd
}

// passOn returns the flags of serve that were given, for the children.
func passOn(cmd *cobra.Command) (args []string) {
	for _, name := range []string{"capacity", "zone", "host", "leaf-set-size", "region", "domain", "tls-cert", "tls-key", "log-level", "replace-after", "repair-after", "audit-after", "trash-after"} {
		if f := cmd.Flags().Lookup(name); f.Value.String() != f.DefValue {
			args = append(args, "--"+name+"="+f.Value.String())
		}
	}
	return args
}

// dev runs the children. Owned by run.
type dev struct {
	dir         string
	base        int
	pass        []string
	leafSetSize int
	nodes       []devNode
	ended       chan error // one value for each child that ended; capacity: number of nodes
}

// readyLine is what a node prints when it is ready.
var readyLine = regexp.MustCompile(`^larder: ready s3=(\S*) admin=(\S+) node=([0-9a-f]{32})$`)

// readyMax bounds how long the ring may take to be whole, for each node.
const readyMax = 30 * time.Second

func (d *dev) run(ctx context.Context, nodes int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.ended = make(chan error, nodes)
	started := 0
	defer func() {
		cancel()
		for range started {
			<-d.ended
		}
	}()
	for i := range nodes {
		started++
		if err := d.start(ctx, i); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
	}
	if err := d.await(ctx, nodes); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(d.nodes, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "dev.json"), append(raw, '\n'), 0o600); err != nil {
		return err
	}
	fmt.Println("larder: ready")
	<-ctx.Done()
	return nil
}

// start runs node i and waits for its ready line. Nodes that are killed later are left dead: who kills them starts them again.
func (d *dev) start(ctx context.Context, i int) error {
	data := filepath.Join(d.dir, fmt.Sprintf("node%d", i))
	overlay, admin, err := d.ports(data)
	if err != nil {
		d.ended <- err
		return err
	}
	args := append([]string{"serve", "--data=" + data, fmt.Sprintf("--s3=127.0.0.1:%d", d.base+i), "--overlay=" + overlay, "--admin=" + admin}, d.pass...)
	if i > 0 {
		ticket, err := d.ticket(ctx)
		if err != nil {
			d.ended <- err
			return err
		}
		args = append(args, "--ticket="+ticket, "--join="+d.overlayOf(0))
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		d.ended <- err
		return err
	}
	log, err := os.OpenFile(filepath.Join(data, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.ended <- err
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		d.ended <- err
		return err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = drainMax + 10*time.Second
	out, in, err := os.Pipe()
	if err != nil {
		d.ended <- err
		return err
	}
	cmd.Stdout = in
	// A child must not outlive its parent, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	if err := cmd.Start(); err != nil {
		in.Close()
		out.Close()
		d.ended <- err
		return err
	}
	in.Close()
	if err := writeCommand(filepath.Join(data, "command"), self, args); err != nil {
		return err
	}
	ready := make(chan devNode, 1)
	go d.follow(out, ready, devNode{PID: cmd.Process.Pid, Data: data})
	go func() { d.ended <- cmd.Wait() }() // awaited by run
	select {
	case n, ok := <-ready:
		if !ok {
			return fmt.Errorf("ended before it was ready; see %s", filepath.Join(data, "log"))
		}
		d.nodes = append(d.nodes, n)
		return nil
	case <-time.After(readyMax):
		return fmt.Errorf("not ready after %v; see %s", readyMax, filepath.Join(data, "log"))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeCommand keeps how the node was started, for whoever kills it and wants it back.
func writeCommand(path, self string, args []string) error {
	return os.WriteFile(path, []byte(self+" "+strings.Join(args, " ")+"\n"), 0o600)
}

// follow reads a child's standard output: the ready line, and what else it says for the person who started dev.
func (d *dev) follow(out io.ReadCloser, ready chan<- devNode, n devNode) {
	defer out.Close()
	defer close(ready)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			n.S3, n.Admin, n.Node = m[1], m[2], m[3]
			ready <- n
			continue
		}
		fmt.Println(lines.Text())
	}
}

// ports are the node's overlay and admin addresses: those it had, or free ones.
func (d *dev) ports(data string) (overlay, admin string, err error) {
	path := filepath.Join(data, "ports.json")
	var ports [2]string
	if raw, err := os.ReadFile(path); err == nil && json.Unmarshal(raw, &ports) == nil {
		return ports[0], ports[1], nil
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer u.Close()
	t, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer t.Close()
	ports = [2]string{u.LocalAddr().String(), t.Addr().String()}
	raw, err := json.Marshal(ports)
	if err == nil {
		err = os.MkdirAll(data, 0o700)
	}
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	return ports[0], ports[1], err
}

func (d *dev) overlayOf(i int) string {
	overlay, _, _ := d.ports(filepath.Join(d.dir, fmt.Sprintf("node%d", i)))
	return overlay
}

// ticket asks the first node for a ticket and returns the file that it is in.
func (d *dev) ticket(ctx context.Context) (string, error) {
	path := filepath.Join(d.dir, "ticket")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.nodes[0].Admin+"/v1/ticket", nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var answer struct {
		Ticket string `json:"ticket"`
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ticket: %s", res.Status)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return "", fmt.Errorf("ticket: %w", err)
	}
	return path, os.WriteFile(path, []byte(answer.Ticket+"\n"), 0o600)
}

// await waits until every node sees all others, or as many of them as its leaf set holds.
func (d *dev) await(ctx context.Context, nodes int) error {
	nodes = min(nodes, d.leafSetSize+1)
	for _, n := range d.nodes {
		for {
			if seen, err := ringSize(ctx, n.Admin); err == nil && seen >= nodes {
				break
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// ringSize asks a node how many nodes the ring has.
func ringSize(ctx context.Context, admin string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/v1/ring", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	var ring struct {
		Nodes int `json:"nodes"`
	}
	return ring.Nodes, json.NewDecoder(io.LimitReader(res.Body, 8<<20)).Decode(&ring)
}
