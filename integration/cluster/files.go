package cluster

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readKeys reads DIR/credentials; they are empty where there is none.
func readKeys(t testing.TB, data string) (k Keys) {
	t.Helper()
	f, err := os.Open(filepath.Join(data, "credentials"))
	if os.IsNotExist(err) {
		return k
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), "=")
		switch strings.TrimSpace(name) {
		case "aws_access_key_id":
			k.Access = strings.TrimSpace(value)
		case "aws_secret_access_key":
			k.Secret = strings.TrimSpace(value)
		}
	}
	return k
}

// Ports are drawn below the range from which the system gives out ports of its own accord, so that a node which is down finds its
// ports free when it comes back.
const portLeast, portMost = 12000, 32000

// freePorts finds n successive ports that are free for TCP and UDP.
func freePorts(t testing.TB, n int) (first int) {
	t.Helper()
draw:
	for range 200 {
		first = portLeast + rand.IntN(portMost-portLeast-n)
		for i := range n {
			if !free(first + i) {
				continue draw
			}
		}
		return first
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func free(port int) bool {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	l.Close()
	p, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	p.Close()
	return true
}

// tail is the end of the log in data, so many lines of it.
func tail(data string, lines int) string {
	raw, err := os.ReadFile(filepath.Join(data, "log"))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// report fails the test if the log in data tells of a panic or a data race, and shows the end of the log if the test failed. With
// LARDER_TEST_LOGS set the whole log of a failed test is kept in that directory.
func report(t testing.TB, data string) {
	raw, err := os.ReadFile(filepath.Join(data, "log"))
	if err != nil {
		return
	}
	for _, sign := range []string{"WARNING: DATA RACE", "\npanic: ", "\nfatal error: "} {
		if at := strings.Index("\n"+string(raw), sign); at >= 0 {
			t.Errorf("%s: %.4000s", data, raw[max(0, at-1):])
		}
	}
	if !t.Failed() {
		return
	}
	t.Logf("the end of %s/log:\n%s", data, tail(data, 20))
	if keep := os.Getenv("LARDER_TEST_LOGS"); keep != "" {
		name := strings.ReplaceAll(t.Name(), "/", "_") + "-" + filepath.Base(filepath.Dir(data)) + "-" + filepath.Base(data) + ".log"
		if err := os.WriteFile(filepath.Join(keep, name), raw, 0o600); err != nil {
			t.Log(err)
		}
	}
}
