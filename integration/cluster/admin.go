package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Poll calls f until it returns nil, and returns its last error where within is over first.
func Poll(within time.Duration, f func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return fmt.Errorf("after %v: %w", within, err)
		}
	}
}

// adminClient gives up on a node that was stopped in the middle of an answer.
var adminClient = &http.Client{Timeout: 45 * time.Second}

// Get asks the node's admin API. path begins with /v1/.
func (n *Node) Get(path string, into any) error { return n.ask(http.MethodGet, path, into) }

// Ticket asks the node for a ticket of its realm.
func (n *Node) Ticket(t testing.TB) string {
	t.Helper()
	var answer struct{ Ticket string }
	if err := n.ask(http.MethodPost, "/v1/ticket", &answer); err != nil || answer.Ticket == "" {
		t.Fatalf("ticket: %q, %v", answer.Ticket, err)
	}
	return answer.Ticket
}

func (n *Node) ask(method, path string, into any) error {
	req, err := http.NewRequest(method, n.Admin+path, nil)
	if err != nil {
		return err
	}
	res, err := adminClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, body)
	}
	return json.Unmarshal(body, into)
}

// Status is what GET /v1/status says, as far as tests look at it.
type Status struct {
	State        string
	Reasons      []string
	Nodes        int
	StorageNodes int
}

// Whole returns nil if the node says that the ring of so many nodes is whole: every partition has its members, and no fragment is
// missing.
func (n *Node) Whole(nodes int) error {
	var s Status
	if err := n.Get("/v1/status", &s); err != nil {
		return err
	}
	if s.State != "whole" || s.Nodes != nodes {
		return errors.New(s.String())
	}
	return nil
}

func (s *Status) String() string {
	return fmt.Sprintf("%s, %d nodes, %d with storage: %s", s.State, s.Nodes, s.StorageNodes, strings.Join(s.Reasons, "; "))
}

// WaitWhole waits until every one of the nodes says that the ring is whole and consists of them. A test that waits in vain shows how
// what they said changed.
func WaitWhole(t testing.TB, within time.Duration, nodes ...*Node) {
	t.Helper()
	begin := time.Now()
	var said []string
	for _, n := range nodes {
		last := ""
		err := Poll(max(0, within-time.Since(begin)), func() error {
			err := n.Whole(len(nodes))
			if err != nil && err.Error() != last {
				last = err.Error()
				said = append(said, fmt.Sprintf("%6.1f s, %s: %s", time.Since(begin).Seconds(), n.ID[:8], last))
			}
			return err
		})
		if err != nil {
			t.Fatalf("not whole as %s sees it: %v\nBefore:\n%s", n.ID[:8], err, strings.Join(said[max(0, len(said)-30):], "\n"))
		}
	}
	t.Logf("whole after %v", time.Since(begin).Round(100*time.Millisecond))
}
