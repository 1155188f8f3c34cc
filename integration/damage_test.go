package integration

import (
	"os"
	"strings"
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

// TestFlippedAlone damages the disk of a node that is all there is. Nothing wrong is served, what is sound stays readable, the damage
// is told of, and where records are lost the node refuses to start rather than to forget them.
func TestFlippedAlone(t *testing.T) {
	for _, kind := range []string{"segments", "index tables", "entries log", "entries tables"} {
		t.Run(kind, func(t *testing.T) {
			n := cluster.Start(t)
			const bucket = "alone"
			makeBucket(t, n.S3Client(), bucket)
			l := newLedger()
			load(t, l, bucket, "before", 40, n)
			end := n.Kill
			if strings.HasSuffix(kind, "tables") {
				end = n.Terminate
			}
			must(t, end())
			_, since := logged(t, n, 0)
			if flip(t, n, kind, 1) == 0 {
				t.Fatal("no file to damage")
			}
			err := n.TryStart(t)
			if err == nil {
				if lost := neverWrong(t, l, bucket, n); lost > 12 && !strings.HasPrefix(kind, "entries") { // the one table may lose its index
					t.Errorf("one bit cost %d of 40 objects", lost)
				}
				scrub(t, n)
			} else if !strings.HasPrefix(kind, "entries") {
				t.Fatal(err)
			}
			if told, _ := logged(t, n, since, signs...); !told {
				t.Error("the damage was not reported")
			}
		})
	}
}

// TestFlippedWhileRunning damages the files of a node that runs. What it has in memory hides some of it until a scrub reads or a start
// opens it; in the end everything is mended.
func TestFlippedWhileRunning(t *testing.T) {
	long(t)
	r := five(t)
	const bucket = "running"
	makeBucket(t, r.Nodes[0].S3Client(), bucket)
	l := newLedger()
	load(t, l, bucket, "before", 120, r.Nodes...)
	victim := r.Nodes[2]
	must(t, victim.Terminate()) // so that tables are there
	victim.Start(t)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	_, since := logged(t, victim, 0)
	for _, kind := range []string{"segments", "entries tables", "index tables"} {
		if flip(t, victim, kind, 3) == 0 {
			t.Fatalf("%s: no file to damage", kind)
		}
	}
	neverWrong(t, l, bucket, victim)
	l.check(t, bucket, others(r, victim)...)
	t.Log(scrub(t, victim))
	load(t, l, bucket, "after", 40, others(r, victim)...)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	if told, _ := logged(t, victim, since, signs...); !told {
		t.Error("the damage was not reported")
	}
	must(t, victim.Terminate())
	victim.Start(t)
	cluster.WaitWhole(t, wholeMax, r.Nodes...)
	twoLost(t, r, l, bucket, r.Nodes[0], r.Nodes[3])
}
