package cluster

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ring is the nodes of one `larder dev`, and those that joined later.
type Ring struct {
	Nodes []*Node
	Dir   string
	Keys  Keys
}

// Dev runs `larder dev --nodes n` with flags, and waits until it is ready. It is stopped when the test ends.
func Dev(t testing.TB, n int, flags ...string) *Ring {
	t.Helper()
	r := &Ring{Dir: t.TempDir()}
	base := freePorts(t, n)
	args := append([]string{"dev", fmt.Sprintf("--nodes=%d", n), "--data=" + r.Dir, fmt.Sprintf("--s3-base-port=%d", base)}, flags...)
	log, err := os.Create(filepath.Join(r.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // a test that is killed leaves nothing running
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done, isReady := make(chan struct{}), make(chan bool, 1)
	go func() { // awaited by terminate, through done
		isReady <- readyDev(out)
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		terminate(t, cmd.Process.Pid, done, r.Dir)
		for _, node := range r.Nodes {
			report(t, node.Data)
		}
	})
	select {
	case ok := <-isReady:
		if !ok {
			t.Fatalf("larder dev ended before it was ready:\n%s\n%s", tail(r.Dir, 30), tail(filepath.Join(r.Dir, "node0"), 30))
		}
	case <-time.After(startMax + time.Duration(n)*10*time.Second):
		t.Fatalf("larder dev is not ready:\n%s", tail(r.Dir, 30))
	}
	r.read(t)
	return r
}

// readyDev waits for the line, and leaves a goroutine that reads on until the output ends.
func readyDev(out io.Reader) bool {
	for s := bufio.NewScanner(out); s.Scan(); {
		if s.Text() == "larder: ready" {
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process, whose Wait closes out
			return true
		}
	}
	return false
}

// read takes the nodes from dev.json, and the command lines from their directories.
func (r *Ring) read(t testing.TB) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(r.Dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		PID                   int
		S3, Admin, Node, Data string
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	r.Keys = readKeys(t, filepath.Join(r.Dir, "node0"))
	for _, e := range list {
		command, err := os.ReadFile(filepath.Join(e.Data, "command"))
		if err != nil {
			t.Fatal(err)
		}
		args := strings.Fields(string(command))[1:]
		r.Nodes = append(r.Nodes, &Node{S3: e.S3, Admin: e.Admin, ID: e.Node, Data: e.Data, Keys: r.Keys, args: args, pid: e.PID})
	}
}

// Join adds a node to the ring, with a ticket of one that runs.
func (r *Ring) Join(t testing.TB, via *Node, flags ...string) *Node {
	t.Helper()
	ticket := filepath.Join(t.TempDir(), "ticket")
	if err := os.WriteFile(ticket, []byte(via.Ticket(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := Prepare(t, append([]string{"--ticket=" + ticket}, flags...)...)
	n.Start(t)
	n.Keys = r.Keys
	r.Nodes = append(r.Nodes, n)
	return n
}
