package integration

import (
	"os"
	"testing"

	"larder/integration/cluster"
)

// signs are what a node says of damage that it found.
var signs = []string{"damage", "corrupt", "unsupported format"}

// TestFlipped stops a node, flips bits in one kind of its files, and starts it again, for every kind. No gateway ever serves
// anything wrong, the damage is told of, the node comes back and is filled again: in the end two other nodes may be lost.
func TestFlipped(t *testing.T) {
	long(t)
	kinds := []string{"segments", "entries log", "entries tables", "index tables", "tide", "entries manifest"}
	if cluster.Soak() {
		kinds = append(kinds, "index log", "index manifest", "index options", "entries options", "format")
	}
	if only := os.Getenv("LARDER_FLIP"); only != "" {
		kinds = []string{only}
	}
	r := five(t)
	const bucket = "flipped"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	l := newLedger()
	load(t, l, bucket, "before", 160, r.Nodes...)
	for i, kind := range kinds {
		victim := r.Nodes[i%5]
		end := victim.Kill
		if i%2 == 1 || kind == "entries tables" || kind == "index tables" {
			end = victim.Terminate // tables are written at the latest then
		}
		must(t, end())
		_, since := logged(t, victim, 0)
		files := flip(t, victim, kind, 3)
		if files == 0 {
			t.Errorf("%s: no file to damage", kind)
		}
		victim.Start(t)
		neverWrong(t, l, bucket, victim)
		l.check(t, bucket, others(r, victim)...)
		t.Logf("%s of node %d: %d files damaged; scrub: %s", kind, i%5, files, scrub(t, victim))
		cluster.WaitWhole(t, wholeMax, r.Nodes...)
		if told, _ := logged(t, victim, since, signs...); !told {
			t.Errorf("%s: the damage was not reported", kind)
		}
		load(t, l, bucket, kind, 10, r.Nodes...)
		twoLost(t, r, l, bucket, others(r, victim)[i%2*2:][:2]...)
	}
}
