package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Node is one process. Its methods belong to one goroutine at a time, the faults' one; the fields may be read by all after the start.
type Node struct {
	S3    string // http://127.0.0.1:port, https:// with TLS, empty without a gateway
	Admin string
	ID    string // nodeId
	Data  string // its directory
	Keys  Keys

	args []string // of the program, to start it again
	pid  int
	own  *exec.Cmd // nil while the process is a child of `larder dev`
	done chan struct{}
}

// Keys are an access key and its secret.
type Keys struct{ Access, Secret string }

// startMax bounds how long a process may take to be ready. The machine may be busy with other tests.
const startMax = 90 * time.Second

// ready is the line of design.md §10.
var ready = regexp.MustCompile(`^larder: ready s3=(\S*) admin=(\S+) node=([0-9a-f]{32})$`)

// Start runs `larder serve` with its own directory and free ports, and flags after those. It founds a realm unless the flags say
// otherwise. The process is stopped when the test ends.
func Start(t testing.TB, flags ...string) *Node {
	t.Helper()
	n := Prepare(t, flags...)
	n.Start(t)
	if n.Keys = readKeys(t, n.Data); n.Keys == (Keys{}) && !strings.Contains(strings.Join(flags, " "), "--ticket") {
		t.Fatalf("no credentials in %s", n.Data)
	}
	return n
}

// Prepare is Start without the start.
func Prepare(t testing.TB, flags ...string) *Node {
	t.Helper()
	p := freePorts(t, 3)
	n := &Node{Data: filepath.Join(t.TempDir(), "node")}
	n.args = append([]string{
		"serve", "--data=" + n.Data, fmt.Sprintf("--s3=127.0.0.1:%d", p), fmt.Sprintf("--admin=127.0.0.1:%d", p+1), fmt.Sprintf("--overlay=127.0.0.1:%d", p+2),
	}, flags...)
	return n
}

// Start runs a node that does not run, as it was run before, and waits until it is ready.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	if err := n.TryStart(t); err != nil {
		t.Fatal(err)
	}
}

// TryStart is Start for goroutines other than the test's. The process is stopped when the test ends.
func (n *Node) TryStart(t testing.TB) error {
	if err := os.MkdirAll(n.Data, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.Data, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(binary, n.args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // a test that is killed leaves nothing running
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	done, lines := make(chan struct{}), make(chan []string, 1)
	n.own, n.pid, n.done = cmd, cmd.Process.Pid, done
	go func() { // awaited by whoever stops the process, through done
		follow(out, lines)
		_ = cmd.Wait() // how it ended is told by what it wrote
		close(done)
	}()
	t.Cleanup(func() { terminate(t, cmd.Process.Pid, done, n.Data) })
	select {
	case m := <-lines:
		if m == nil {
			return fmt.Errorf("node ended before it was ready:\n%s", tail(n.Data, 30))
		}
		n.S3, n.Admin, n.ID = m[1], m[2], m[3]
		return nil
	case <-time.After(startMax):
		return fmt.Errorf("node not ready after %v:\n%s", startMax, tail(n.Data, 30))
	}
}

// follow sends the parts of the ready line, or nil if the output ends without it, and reads on.
func follow(out io.Reader, lines chan<- []string) {
	defer close(lines)
	for s := bufio.NewScanner(out); s.Scan(); {
		if m := ready.FindStringSubmatch(s.Text()); m != nil {
			lines <- m
			break
		}
	}
	_, _ = io.Copy(io.Discard, out)
}

// Kill ends the process as kill -9 does, and returns when it is gone. It may be called from any goroutine.
func (n *Node) Kill() error {
	if err := syscall.Kill(n.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return n.gone(10 * time.Second)
}

// Terminate asks the process to drain and end, and returns when it is gone.
func (n *Node) Terminate() error {
	if err := syscall.Kill(n.pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return n.gone(40 * time.Second)
}

// Pause and Continue send SIGSTOP and SIGCONT.
func (n *Node) Pause() error    { return syscall.Kill(n.pid, syscall.SIGSTOP) }
func (n *Node) Continue() error { return syscall.Kill(n.pid, syscall.SIGCONT) }

// gone waits until there is no such process.
func (n *Node) gone(within time.Duration) error {
	if n.own != nil {
		select {
		case <-n.done:
			return nil
		case <-time.After(within):
			return fmt.Errorf("process %d has not ended after %v", n.pid, within)
		}
	}
	return Poll(within, func() error {
		if err := syscall.Kill(n.pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d has not ended", n.pid)
		}
		return nil
	})
}

// terminate ends a process of ours at the end of a test: SIGTERM, and SIGKILL for one that stays.
func terminate(t testing.TB, pid int, done <-chan struct{}, data string) {
	select {
	case <-done: // before now
	default:
		_ = syscall.Kill(pid, syscall.SIGCONT)
		_ = syscall.Kill(pid, syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(40 * time.Second):
			t.Errorf("process %d ignored SIGTERM for 40 s", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
			<-done
		}
	}
	report(t, data)
}
