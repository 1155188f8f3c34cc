package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"larder/admin"
	"larder/pastry"
)

var update = flag.Bool("update", false, "rewrite golden files")

var (
	nodeA = pastry.NodeID{0xaa, 0x01, 0x02, 0x03}
	nodeB = pastry.NodeID{0xbb, 0x01, 0x02, 0x03}
	day   = time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
)

// canned is what a node answers in these tests, by method and path.
var canned = map[string]any{
	"GET /v1/status": admin.Status{
		State: admin.Repairing, Reasons: []string{"3 fragments missing"}, Node: nodeA, Scope: "leafSet", RingSize: 41.7, Nodes: 5, StorageNodes: 4, Gateways: 2, Silent: 1,
		CapacityBytes: 4 << 40, UsedBytes: 3 << 30, FreeBytes: 1 << 40, Partitions: admin.PartitionCounts{Total: 7, Degraded: 1},
		Fragments: admin.FragmentCounts{Total: 120, Missing: 3, Debts: 1, Corrupt: 2, Checked: 60, ToCheck: 120}, Progress: admin.Progress{Done: 60, Total: 120, Percent: 50},
		Lookups: admin.LookupCounts{ByHops: []uint64{4, 7, 2}, Total: 13, Far: 2},
		Audit:   &admin.Audit{Passes: 2, PassEnded: day, Fragments: 90, Undecided: 1, ReclaimedStripes: 6},
	},
	"GET /v1/nodes": []admin.Node{
		{Node: nodeA, Self: true, Live: true, Roles: []string{"storage", "gateway"}, Zone: "north", Host: "h1", Address: "10.0.0.1:7000", S3: "http://10.0.0.1:9000", CapacityBytes: 1 << 40, UsedBytes: 1536, Version: "1.0", Boot: 3, Blocks: admin.NodeBlocks{Whole: true, Fragments: 12}},
		{Node: nodeB, Roles: []string{"storage"}, Zone: "\x1b[31mred", Address: "10.0.0.2:7000", CapacityBytes: 1 << 40, RTTMicros: 1500, Boot: 1, Blocks: admin.NodeBlocks{Checked: 5, ToCheck: 9}},
		{Node: pastry.NodeID{0xcc}, Live: true, Roles: []string{"gateway"}, Address: "10.0.0.3:7000", RTTMicros: -1},
	},
	"GET /v1/ring": admin.Ring{
		Node: nodeA, Address: "10.0.0.1:7000", Ready: true, Nodes: 2, RingSize: 2, Smaller: []admin.Neighbour{{Node: nodeB}}, Larger: []admin.Neighbour{{Node: nodeB}}, RowsFilled: []int{15, 3},
		LookupsByHops: []uint64{4, 7, 2}, FarLookups: 2, Delivered: 9, Failures: 1, Sent: map[string]uint64{"Ping": 3}, Received: map[string]uint64{"Pong": 3, "Heartbeat": 8},
	},
	"GET /v1/partitions": []admin.Partition{
		{Partition: strings.Repeat("0", 32), System: true, Epoch: 2, K: 1, Members: []admin.Member{{Node: nodeA, Active: true}}},
		{Partition: strings.Repeat("5", 32), Bucket: "photos", K: 3, Members: []admin.Member{{Node: nodeA, Active: true}, {Node: nodeB}}},
		{Partition: strings.Repeat("6", 32), BucketID: strings.Repeat("7", 32), K: 1, Closed: true},
	},
	"GET /v1/object?bucket=photos&key=a%2Fb+c": admin.Object{
		Bucket: "photos", Key: "a/b c", Size: 5 << 20, ETag: "0123-1", Modified: "2026-11-22T01:02:03Z", Owner: "bob", Parts: []admin.ObjectPart{{Number: 1, Size: 5 << 20, ETag: "45"}},
		Stripes: []admin.ObjectStripe{{Kind: "data", Part: 1, Number: 1, Block: strings.Repeat("ab", 32), Length: 4 << 20, Data: 2, Parity: 2, Missing: []int{3},
			Holders: []admin.Holder{{Node: nodeA, Live: []int{0, 2}}, {Node: nodeB, Live: []int{1}, Trashed: []int{0}}}, Silent: []string{strings.Repeat("cd", 16)}}},
		Truncated: true,
	},
	"POST /v1/ticket":                       admin.Ticket{Ticket: "larder-ticket-1.abc", Expires: day},
	"POST /v1/repair":                       admin.Started{Node: nodeA},
	"GET /v1/buckets":                       []admin.Bucket{{Name: "photos", Owner: "bob", Region: "us-east-1", Created: day}},
	"GET /v1/users":                         []admin.User{{Name: "bob", Role: admin.RoleUser, Created: day}},
	"POST /v1/users":                        admin.Key{User: "bob", Role: admin.RoleAdmin, AccessKey: "LK1", SecretKey: "secret"},
	"POST /v1/keys":                         admin.Key{User: "bob", Role: admin.RoleUser, AccessKey: "LK2", SecretKey: "secret"},
	"DELETE /v1/users/b%20b":                admin.Done{},
	"DELETE /v1/keys/LK1":                   admin.Done{},
	"GET /v1/keys?user=bob":                 []admin.Key{{User: "bob", AccessKey: "LK1"}},
	"POST /v1/scrub":                        admin.Scrub{Node: nodeA, Done: true, Seconds: 1.25, Fragments: 12, Bytes: 1 << 20, Rows: 7, Corrupt: 2, Mended: 2},
	"POST /v1/scrub?node=" + nodeA.String(): admin.Scrub{Node: nodeA, Done: true, Corrupt: 1, Fragments: 3},
}

// fakeNode answers with what is canned, and keeps the body of the last request.
func fakeNode(t *testing.T) (address string, body *string) {
	body = new(string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		*body = string(raw)
		v, ok := canned[r.Method+" "+r.RequestURI]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			v = admin.Failure{Error: "nothing canned for " + r.Method + " " + r.RequestURI}
		}
		_ = json.NewEncoder(w).Encode(v)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), body
}

// runAdmin runs `larder admin` with arguments.
func runAdmin(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := adminCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestAdminOutput(t *testing.T) {
	address, _ := fakeNode(t)
	t.Setenv("LARDER_ADMIN", address)
	for _, args := range []string{
		"status", "status --json", "nodes", "ring", "partitions", "ticket", "repair", "bucket list", "user list", "user add bob",
		"key add bob", "key list bob", "key remove LK1", "scrub", "scrub --json",
	} {
		golden(t, strings.ReplaceAll(args, " ", "-"), strings.Fields(args)...)
	}
	golden(t, "user-remove", "user", "remove", "b b")
	golden(t, "object", "object", "photos", "a/b c")
}

func golden(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := runAdmin(t, args...)
	if err != nil {
		t.Errorf("%s: %v", args, err)
		return
	}
	path := filepath.Join("testdata", "admin", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(path); err != nil || string(want) != out {
		t.Errorf("%s: %v\n%s\nwant\n%s", args, err, out, want)
	}
}

func TestAdminSendsWhatItWasTold(t *testing.T) {
	address, body := fakeNode(t)
	if _, err := runAdmin(t, "user", "add", "bob", "--admin", "http://"+address+"/", "--role", "admin", "--access-key", "a", "--secret-key", "s"); err != nil {
		t.Fatal(err)
	}
	if want := `{"name":"bob","role":"admin","accessKey":"a","secretKey":"s"}`; *body != want {
		t.Errorf("sent %s, want %s", *body, want)
	}
}

func TestAdminErrors(t *testing.T) {
	address, _ := fakeNode(t)
	for args, part := range map[string]string{
		"user remove none":           "nothing canned for DELETE /v1/users/none",
		"object photos":              "accepts 2 arg(s)",
		"status now":                 "unknown command",
		"nonsense":                   "no such command: nonsense",
		"user nonsense":              "no such command: nonsense",
		"status --admin ftp://x":     "is no admin address",
		"status --admin http://x/y":  "is no admin address",
		"status --admin http://a@x":  "is no admin address",
		"status --admin 127.0.0.1:1": "no answer from the node at http://127.0.0.1:1",
		"scrub --all":                "node bb010203",
		"key list bob eve":           "accepts at most 1 arg(s)",
	} {
		words := strings.Fields(args)
		if !strings.Contains(args, "--admin") {
			words = append(words, "--admin", address)
		}
		if _, err := runAdmin(t, words...); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q", args, err, part)
		}
	}
	// A scrub that leaves something corrupt fails, and does not keep the others from theirs.
	if out, err := runAdmin(t, "scrub", "--all", "--admin", address); err == nil || !strings.Contains(err.Error(), "1 corrupt fragments could not be mended yet") || !strings.Contains(out, "3 fragments") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAdminAddress(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:9001": "http://127.0.0.1:9001", ":9001": "http://127.0.0.1:9001", "0.0.0.0:9001": "http://127.0.0.1:9001", "[::]:9001": "http://127.0.0.1:9001",
		"http://10.0.0.1:9001/": "http://10.0.0.1:9001", "[::1]:9001": "http://[::1]:9001", "https://admin.example": "https://admin.example", "localhost:1": "http://localhost:1",
	} {
		if c, err := newAdminClient(in); err != nil || c.base != want {
			t.Errorf("%s: %+v, %v, want %s", in, c, err, want)
		}
	}
	if c, err := newAdminClient(""); err == nil {
		t.Errorf("no address: %+v", c)
	}
}
