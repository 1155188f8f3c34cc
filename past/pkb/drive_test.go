package pkb

import (
	"fmt"
	"testing"
	"time"
)

// TestReadHedged: where a majority has to be made to agree, a member that neither answers nor refuses does not hold that up, be it among
// those that are asked first or not.
func TestReadHedged(t *testing.T) {
	c := newCluster(t, 3)
	c.whole(3)
	c.bucket(testBucket)
	c.whole(3)
	for _, missed := range []int{2, 3} {
		silent, key := 5-missed, reg(testBucket, fmt.Sprint(missed))
		c.node(missed).stuck.Store(true)
		if _, err := c.node(1).registers.Write(t.Context(), key, rec("x")); err != nil {
			t.Fatal(err)
		}
		c.node(missed).stuck.Store(false)
		c.node(silent).stuck.Store(true)
		begin := time.Now()
		got, err := c.node(1).registers.Read(t.Context(), key)
		if err != nil || string(got.Value) != "x" {
			t.Fatalf("read while node %d is stuck: %+v, %v", silent, got, err)
		}
		if took := time.Since(begin); took > callTimeout*2/3 {
			t.Errorf("read while node %d is stuck took %v", silent, took)
		}
		c.node(silent).stuck.Store(false)
	}
}
