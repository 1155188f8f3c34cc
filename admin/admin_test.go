package admin

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"larder/auth/realm"
	"larder/gateway"
	"larder/pastry/wire"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// put keeps an object of so many bytes.
func put(t *testing.T, n *testNode, bucket, key string, size int) {
	t.Helper()
	body := bytes.Repeat([]byte("larder "), size/7+1)[:size]
	in := gateway.PutInput{Body: bytes.NewReader(body), Size: int64(size), Digest: newDigest(), Owner: "owner"}
	if _, err := n.objects.Put(t.Context(), bucket, key, in); err != nil {
		t.Fatal(err)
	}
}

func TestOneNodeAnswersEverything(t *testing.T) {
	inRing(t, 1, func(t *testing.T, r *testRing) {
		n := r.nodes[0]
		for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
			if w := n.send("GET", path, nil); w.Code != 200 || w.Body.String() != want {
				t.Errorf("%s: %d %q", path, w.Code, w.Body)
			}
		}
		time.Sleep(10 * time.Second)
		st := ask[Status](n, "GET", "/v1/status", nil)
		if st.State != Degraded || !slices.Equal(st.Reasons, []string{"one storage node: every object has one copy"}) || st.Nodes != 1 || st.StorageNodes != 1 || st.Gateways != 1 || st.Partitions.Total != 1 || st.Partitions.Degraded != 0 {
			t.Errorf("status: %+v", st)
		}
		nodes := ask[[]Node](n, "GET", "/v1/nodes", nil)
		if len(nodes) != 1 || !nodes[0].Self || !nodes[0].Live || !slices.Equal(nodes[0].Roles, []string{"storage", "gateway", "issuer"}) || nodes[0].CapacityBytes != 1<<30 || nodes[0].Boot != 1 || nodes[0].Zone != "north" || !nodes[0].Blocks.Whole {
			t.Errorf("nodes: %+v", nodes)
		}
		ring := ask[Ring](n, "GET", "/v1/ring", nil)
		if !ring.Ready || ring.Nodes != 1 || ring.Node != n.identity.NodeID() {
			t.Errorf("ring: %+v", ring)
		}
		parts := ask[[]Partition](n, "GET", "/v1/partitions", nil)
		if len(parts) != 1 || !parts[0].System || parts[0].K != 1 || !parts[0].Members[0].Active || parts[0].Members[0].Node != n.identity.NodeID() {
			t.Errorf("partitions: %+v", parts)
		}
		ticket := ask[Ticket](n, "POST", "/v1/ticket", nil)
		if parsed, err := realm.ParseTicket(ticket.Ticket); err != nil || parsed.Realm.ID != n.identity.Realm.ID || len(parsed.Seeds) != 1 || !parsed.NotAfter.Equal(ticket.Expires.Truncate(time.Second)) {
			t.Errorf("ticket: %v, %+v", err, ticket)
		}
	})
}

func TestUsersAndKeys(t *testing.T) {
	inRing(t, 1, func(t *testing.T, r *testRing) {
		n := r.nodes[0]
		k := ask[Key](n, "POST", "/v1/users", NewUser{Name: "bob", Role: RoleAdmin, AccessKey: "bobs-key", SecretKey: "bobs-secret"})
		if k != (Key{"bob", RoleAdmin, "bobs-key", "bobs-secret"}) {
			t.Errorf("the key made: %+v", k)
		}
		drawn := ask[Key](n, "POST", "/v1/keys", NewKey{User: "bob"})
		if have, err := n.objects.Key(t.Context(), drawn.AccessKey); err != nil || have.Secret != drawn.SecretKey || have.User != "bob" || !have.Admin || drawn.Role != RoleAdmin {
			t.Errorf("drawn key %+v is kept as %+v, %v", drawn, have, err)
		}
		eve := ask[Key](n, "POST", "/v1/users", NewUser{Name: "eve"})
		if users := ask[[]User](n, "GET", "/v1/users", nil); len(users) != 2 || users[0].Name != "bob" || users[0].Role != RoleAdmin || users[1].Name != "eve" || users[1].Role != RoleUser {
			t.Errorf("users: %+v", users)
		}
		if keys := ask[[]Key](n, "GET", "/v1/keys?user=bob", nil); len(keys) != 2 || keys[0].SecretKey+keys[1].SecretKey != "" {
			t.Errorf("bob's keys: %+v", keys)
		}
		if keys := ask[[]Key](n, "GET", "/v1/keys", nil); len(keys) != 3 {
			t.Errorf("all keys: %+v", keys)
		}
		ask[Done](n, "DELETE", "/v1/keys/bobs-key", nil)
		ask[Done](n, "DELETE", "/v1/users/eve", nil)
		for _, id := range []string{"bobs-key", eve.AccessKey} {
			if _, err := n.objects.Key(t.Context(), id); err == nil {
				t.Errorf("%s still works", id)
			}
		}
		n.wantRefusal("DELETE", "/v1/users/eve", nil, 404, "no such user")
		n.wantRefusal("DELETE", "/v1/keys/bobs-key", nil, 404, "no such access key")
		n.wantRefusal("GET", "/v1/keys?user=eve", nil, 404, "no such user: eve")
		n.wantRefusal("POST", "/v1/keys", NewKey{User: "eve"}, 404, "no such user")
		n.wantRefusal("POST", "/v1/users", NewUser{Name: "bob"}, 409, "user exists")
		n.wantRefusal("POST", "/v1/keys", NewKey{User: "bob", AccessKey: drawn.AccessKey, SecretKey: "12345678"}, 409, "access key exists")

		// A user whose key cannot be made is not left behind.
		n.wantRefusal("POST", "/v1/users", NewUser{Name: "mia", AccessKey: drawn.AccessKey, SecretKey: "12345678"}, 409, "access key exists")
		if users := ask[[]User](n, "GET", "/v1/users", nil); len(users) != 1 {
			t.Errorf("users after a refusal: %+v", users)
		}
	})
}

func TestBadRequestsAreRefused(t *testing.T) {
	inRing(t, 1, func(t *testing.T, r *testRing) {
		n := r.nodes[0]
		for _, c := range []struct {
			method, path string
			body         any
			status       int
			part         string
		}{
			{"POST", "/v1/users", NewUser{Name: "a", Quota: "5GiB"}, 501, "quotas are not there yet"},
			{"POST", "/v1/users", NewUser{Name: "a", Role: "king"}, 400, `"king" is no role`},
			{"POST", "/v1/users", NewUser{Name: "a", AccessKey: "x"}, 400, "go together"},
			{"POST", "/v1/users", NewUser{Name: "a", AccessKey: "x", SecretKey: "1234567"}, 400, "fewer than 8"},
			{"POST", "/v1/users", NewUser{Name: "a/b"}, 400, "not a valid name"},
			{"POST", "/v1/users", NewUser{}, 400, "not a valid name"},
			{"POST", "/v1/users", map[string]any{"name": "a", "nickname": "b"}, 400, "nickname"},
			{"POST", "/v1/users", []int{1}, 400, "body"},
			{"POST", "/v1/users", NewUser{Name: strings.Repeat("a", requestMax)}, 413, "longer than"},
			{"POST", "/v1/users", nil, 415, "application/json"},
			{"GET", "/v1/object?bucket=b", nil, 400, "required"},
			{"GET", "/v1/object?bucket=b&key=k", nil, 404, "no such bucket"},
			{"GET", "/v1/status?verbose=1", nil, 400, "verbose"},
			{"GET", "/v1/nothing", nil, 404, "/v1/nothing"},
			{"GET", "/v1/ticket", nil, 405, "GET is not for"},
			{"PUT", "/v1/users", nil, 405, "PUT is not for"},
			{"DELETE", "/v1/users", nil, 405, "DELETE is not for"},
			{"GET", "/v1/scrub", nil, 405, "GET is not for"},
			{"POST", "/v1/scrub?node=00000000000000000000000000000000", nil, 421, "this is node"},
		} {
			n.wantRefusal(c.method, c.path, c.body, c.status, c.part)
		}
		if users := ask[[]User](n, "GET", "/v1/users", nil); len(users) != 0 {
			t.Errorf("made in spite of it: %+v", users)
		}
	})
}

func TestARingBecomesWholeAndSaysSoOnlyThen(t *testing.T) {
	inRing(t, 3, func(t *testing.T, r *testRing) {
		n := r.nodes[1]
		if _, err := n.objects.CreateBucket(t.Context(), gateway.Bucket{Name: "photos", Owner: "owner"}); err != nil {
			t.Fatal(err)
		}
		put(t, n, "photos", "big", 5<<20)
		put(t, n, "photos", "small", 10)
		st := n.awaitState(Whole, 3*time.Minute)
		if st.Nodes != 3 || st.StorageNodes != 3 || st.Partitions != (PartitionCounts{Total: 2}) || st.Fragments.Total != 6 || st.Fragments.Missing != 0 || len(st.Reasons) != 0 || st.Progress.Percent != 100 || st.Scope != "ring" {
			t.Errorf("whole: %+v", st)
		}
		o := ask[Object](n, "GET", "/v1/object?bucket=photos&key=big", nil)
		if o.Size != 5<<20 || len(o.Stripes) != 2 || o.Inline || len(o.Stripes[0].Holders) != 3 || len(o.Stripes[0].Missing) != 0 || o.Stripes[0].Data != 1 || o.Stripes[0].Parity != 2 {
			t.Errorf("object: %+v", o)
		}
		if o := ask[Object](n, "GET", "/v1/object?bucket=photos&key=small", nil); !o.Inline || len(o.Stripes) != 0 || o.Owner != "owner" {
			t.Errorf("small object: %+v", o)
		}
		if b := ask[[]Bucket](n, "GET", "/v1/buckets", nil); len(b) != 1 || b[0].Name != "photos" || b[0].Owner != "owner" {
			t.Errorf("buckets: %+v", b)
		}
		parts := ask[[]Partition](n, "GET", "/v1/partitions", nil)
		if len(parts) != 2 || parts[1].Bucket != "photos" || parts[1].K != 3 {
			t.Errorf("partitions: %+v", parts)
		}

		// A killed node is missed at once, though the ring has not noticed yet; what two nodes can do is never whole.
		dead := r.nodes[2]
		dead.kill()
		st = ask[Status](n, "GET", "/v1/status", nil)
		if st.State != Degraded || st.Silent != 1 || !slices.Contains(st.Reasons, "node "+Short(dead.identity.NodeID())+" does not answer") || st.Partitions.Degraded != 2 {
			t.Errorf("just after the kill: %+v", st)
		}
		for range 60 {
			if st = ask[Status](n, "GET", "/v1/status", nil); st.State == Whole {
				t.Fatalf("two nodes and whole: %+v", st)
			}
			time.Sleep(5 * time.Second)
		}
		o = ask[Object](n, "GET", "/v1/object?bucket=photos&key=big", nil)
		if len(o.Stripes[0].Holders) != 2 || len(o.Stripes[0].Missing) != 1 {
			t.Errorf("object after the kill: %+v", o)
		}
		r.add(everything)
		st = n.awaitState(Whole, 15*time.Minute) // past/chb makes sure of what it repaired by its next pass
		if st.Nodes != 3 || st.Fragments.Total != 6 {
			t.Errorf("whole again: %+v", st)
		}
	})
}

func TestScrubTellsWhatItFound(t *testing.T) {
	inRing(t, 3, func(t *testing.T, r *testRing) {
		n := r.nodes[0]
		if _, err := n.objects.CreateBucket(t.Context(), gateway.Bucket{Name: "photos", Owner: "owner"}); err != nil {
			t.Fatal(err)
		}
		put(t, n, "photos", "big", 1<<20)
		n.awaitState(Whole, 3*time.Minute)
		scrub := func() (last Scrub) {
			t.Helper()
			w := n.send("POST", "/v1/scrub?node="+n.identity.NodeID().String(), nil)
			lines := 0
			for d := json.NewDecoder(w.Body); ; lines++ {
				if err := d.Decode(&last); err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if lines < 2 || !last.Done || last.Node != n.identity.NodeID() {
				t.Errorf("%d lines, the last %+v", lines, last)
			}
			return last
		}
		if s := scrub(); s.Fragments != 1 || s.Bytes < 1<<20 || s.Corrupt != 0 || s.Rows == 0 || s.Error != "" {
			t.Errorf("good disk: %+v", s)
		}
		n.disk.Flip(0, 100_000) // fragments come before entries
		if s := scrub(); s.Corrupt != 1 || s.Mended != 1 || s.Error != "" {
			t.Errorf("rotten disk: %+v", s)
		}
		passes := func() int {
			all := ask[[]Node](n, "GET", "/v1/nodes", nil)
			return all[slices.IndexFunc(all, func(m Node) bool { return m.Self })].Blocks.Passes
		}
		before := passes()
		ask[Started](n, "POST", "/v1/repair", nil)
		for begin := time.Now(); passes() == before; time.Sleep(time.Second) { // the bubble's time
			if time.Since(begin) > time.Minute {
				t.Fatal("a pass was asked for, and none ended")
			}
		}
		n.awaitState(Whole, time.Minute)
	})
}

func TestANodeWithoutAGatewaySaysSo(t *testing.T) {
	inRing(t, 1, func(t *testing.T, r *testRing) {
		n := r.add(wire.RoleStorage)
		n.wantRefusal("GET", "/v1/users", nil, 503, "no gateway")
		n.wantRefusal("POST", "/v1/users", NewUser{Name: "bob"}, 503, "no gateway")
		n.wantRefusal("GET", "/v1/object?bucket=b&key=k", nil, 503, "no gateway")
		n.wantRefusal("POST", "/v1/ticket", nil, http.StatusForbidden, "")
		st := ask[Status](n, "GET", "/v1/status", nil)
		if st.State != Degraded || st.StorageNodes != 2 || st.Gateways != 1 {
			t.Errorf("status: %+v", st)
		}
	})
}

func TestMetricsScrapeAndLint(t *testing.T) {
	inRing(t, 3, func(t *testing.T, r *testRing) {
		n := r.nodes[0]
		ask[Key](n, "POST", "/v1/users", NewUser{Name: "bob"})
		w := n.send("GET", "/metrics", nil)
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		text := w.Body.String()
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("lint: %v, %+v", err, problems)
		}
		p := expfmt.NewTextParser(model.UTF8Validation)
		families, err := p.TextToMetricFamilies(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]float64{
			"larder_overlay_leaf_set_nodes": 2, "larder_overlay_ready": 1, "larder_overlay_ring_nodes": 3, "larder_store_capacity_bytes": 1 << 30, "larder_quic_links": 4,
		} {
			f := families[name]
			if f == nil || len(f.Metric) != 1 || f.Metric[0].Gauge.GetValue() != want {
				t.Errorf("%s: %v, want %v", name, f, want)
			}
		}
		for _, name := range []string{"larder_register_operations_total", "larder_rpc_answered_total", "larder_overlay_messages_total", "larder_partitions"} {
			sum := 0.0
			for _, m := range families[name].GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
			if sum == 0 {
				t.Errorf("%s: nothing counted", name)
			}
		}
	})
}

// md5Digest is a gateway.Digest with the ETag alone.
type md5Digest struct{ hash.Hash }

func newDigest() md5Digest { return md5Digest{md5.New()} }

func (d md5Digest) Finish() (gateway.Sums, error) {
	return gateway.Sums{ETag: hex.EncodeToString(d.Sum(nil))}, nil
}
