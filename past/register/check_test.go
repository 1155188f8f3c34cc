package register

import (
	"flag"
	"math/rand"
	"testing"
	"time"
)

var (
	checkFor  = flag.Duration("check", 3*time.Second, "how long TestLinearizable explores each kind of schedule")
	checkSeed = flag.Int64("seed", 0, "run this one schedule of TestLinearizable and print its trace")
	checkPlan = flag.String("plan", "", "the plan that -seed belongs to")
)

// plan says what kind of schedules to explore.
type plan struct {
	name     string
	chain    [][]int
	steps    int
	early    int    // the step until which writes are begun; reads come later
	writes   int    // at most so many operations early, as many again later
	kinds    string // of early operations
	late     string
	loss     float64
	slow     float64 // the share of (operation, node) pairs whose mail is held back
	restarts float64 // per step
	wipes    float64
	rollback float64
	ahead    float64 // copies ahead of a change, per step
	rots     float64 // of the rows of a disk, per step; two disks at most
	memory   int     // logMax and chainMax, if not 0
}

var plans = []plan{
	{name: "one epoch", chain: [][]int{{0, 1, 2}}, steps: 200, early: 90, writes: 4, kinds: "pccvrd", late: "rrc", loss: .1, slow: .35, restarts: .01},
	{name: "one epoch, contended", chain: [][]int{{0, 1, 2}}, steps: 160, early: 50, writes: 4, kinds: "cppcv", late: "r", loss: .3, slow: .35},
	{name: "five members", chain: [][]int{{0, 1, 2, 3, 4}}, steps: 260, early: 90, writes: 4, kinds: "pccvd", late: "rrc", loss: .2, slow: .35},
	{name: "three epochs", chain: [][]int{{0, 1, 2}, {2, 3, 4}, {3, 4, 0}}, steps: 460, early: 90, writes: 4, kinds: "pcdvdr", late: "rrcp", loss: .15, slow: .3, restarts: .005},
	{name: "members stay", chain: [][]int{{0, 1, 2}, {0, 1, 3}, {0, 3, 4}}, steps: 420, early: 70, writes: 4, kinds: "pcdvd", late: "rrc", loss: .3, slow: .3, restarts: .005},
	{name: "growing", chain: [][]int{{0}, {0, 1, 2}, {0, 1, 2, 3, 4}}, steps: 460, early: 90, writes: 4, kinds: "pcdv", late: "rrc", loss: .15, slow: .3},
	{name: "a wiped disk", chain: [][]int{{0, 1, 2}, {0, 1, 3}}, steps: 320, early: 90, writes: 4, kinds: "pcdv", late: "rrrc", loss: .1, slow: .2, wipes: .01},
	{name: "a delete, then quiet changes", chain: [][]int{{0, 1, 2}, {2, 3, 4}, {3, 4, 0}}, steps: 420, early: 60, writes: 3, kinds: "pdd", late: "rrr", loss: .35, slow: .4},
	{name: "a disk rolled back", chain: [][]int{{0, 1, 2}}, steps: 260, early: 90, writes: 4, kinds: "ppcvd", late: "rrrc", loss: .1, slow: .2, restarts: .015, rollback: .02},
	{name: "rolled back and moved", chain: [][]int{{0, 1, 2}, {0, 1, 2}}, steps: 360, early: 90, writes: 4, kinds: "ppcvd", late: "rrrc", loss: .1, slow: .2, restarts: .015, rollback: .02},
	{name: "damaged disks", chain: [][]int{{0, 1, 2}}, steps: 260, early: 90, writes: 4, kinds: "pccvrd", late: "rrc", loss: .1, slow: .3, rots: .006},
	{name: "copied ahead", chain: [][]int{{0, 1, 2}, {2, 3, 4}, {3, 4, 0}}, steps: 520, early: 90, writes: 4, kinds: "pcdvdr", late: "rrcp", loss: .15, slow: .3, restarts: .003, ahead: .012},
	{name: "copied ahead, members stay", chain: [][]int{{0, 1, 2}, {0, 1, 3}, {0, 3, 4}}, steps: 480, early: 70, writes: 4, kinds: "pcdvd", late: "rrc", loss: .3, slow: .3, restarts: .003, ahead: .012},
	{name: "copied ahead, short memory", chain: [][]int{{0, 1, 2}, {2, 3, 4}}, steps: 460, early: 120, writes: 6, kinds: "vcdvp", late: "rrc", loss: .3, slow: .35, ahead: .012, memory: 2},
	{name: "short memory", chain: [][]int{{0, 1, 2}}, steps: 260, early: 120, writes: 6, kinds: "vvcvp", late: "rrc", loss: .3, slow: .35, memory: 2},
	{name: "short memory, two epochs", chain: [][]int{{0, 1, 2}, {2, 3, 4}}, steps: 420, early: 120, writes: 6, kinds: "vcdvp", late: "rrc", loss: .3, slow: .35, memory: 2},
}

// TestLinearizable runs random schedules of every plan and checks each history by brute force.
func TestLinearizable(t *testing.T) {
	if *checkSeed != 0 {
		for _, p := range plans {
			if p.name == *checkPlan {
				w := p.run(*checkSeed)
				for _, line := range w.trace {
					t.Log(line)
				}
				t.Log("linearizable:", linearizable(w.ops))
			}
		}
		return
	}
	budget := *checkFor / time.Duration(len(plans))
	if testing.Short() {
		budget /= 4
	}
	for _, p := range plans {
		t.Run(p.name, func(t *testing.T) {
			begin := time.Now()
			schedules, returned, begun, epochs := 0, 0, 0, uint64(0)
			for seed := int64(1); time.Since(begin) < budget; seed++ {
				w := p.run(seed)
				schedules++
				epochs += w.lineage.Epoch()
				for _, o := range w.ops {
					begun++
					if o.returned != 0 {
						returned++
					}
				}
				if !linearizable(w.ops) {
					t.Fatalf("not linearizable: go test ./past/register -run TestLinearizable -plan %q -seed %d -v", p.name, seed)
				}
			}
			t.Logf("%d schedules, %d of %d operations returned, %d changes", schedules, returned, begun, epochs)
			if returned*3 < begun {
				t.Errorf("only %d of %d operations returned: the check sees too little", returned, begun)
			}
		})
	}
}

// run explores one schedule.
func (p *plan) run(seed int64) *world {
	if p.memory > 0 {
		defer func(l, c int) { logMax, chainMax = l, c }(logMax, chainMax)
		logMax, chainMax = p.memory, p.memory
	}
	rnd := rand.New(rand.NewSource(seed))
	w := newWorld(rnd, p.chain...)
	w.tracing = *checkSeed != 0
	var slow [32][5]bool
	for i := range slow {
		for j := range slow[i] {
			slow[i][j] = rnd.Float64() < p.slow
		}
	}
	loss := p.loss * rnd.Float64() * 2
	damaged := false // one disk only: two would be one failure too many
	rotten := 0
	nextChange := p.early/2 + rnd.Intn(p.early)
	changing := -1
	for step := range p.steps {
		w.clock++
		late := step > p.early
		limit := p.writes
		if late {
			limit *= 2
		}
		switch x := rnd.Float64(); {
		case x < .08 && len(w.ops) < limit:
			w.beginRandom(p, late)
		case x < .11 && step > nextChange && int(w.lineage.Epoch()) < len(p.chain)-1:
			if changing < 0 || w.changes[changing].from.Epoch != w.lineage.Epoch() {
				changing = w.change(w.lineage.Epoch())
				nextChange = step + 80
			}
		case x < .14 && len(w.changes) > 0:
			w.startChange(rnd.Intn(len(w.changes))) // try again
		case x < .20 && len(w.ops) > 0:
			w.retry(rnd.Intn(len(w.ops)))
		case x < .24 && len(w.ops) > 0:
			w.move(rnd.Intn(len(w.ops)))
		case x < .249 && len(w.ops) > 0:
			w.step(rnd.Intn(len(w.ops)), HedgeNow{})
		case x < .25 && len(w.ops) > 0:
			w.giveUp(rnd.Intn(len(w.ops)))
		case x < .25+p.restarts:
			w.restart(rnd.Intn(5))
		case x < .25+2*p.restarts:
			w.greet(rnd.Intn(5))
		case x < .25+2*p.restarts+p.wipes+p.rollback && !damaged:
			if p.wipes > 0 {
				w.wipe(2)
				damaged = true
			} else {
				damaged = w.rollback(rnd.Intn(3))
			}
		case x < .25+2*p.restarts+p.wipes+p.rollback+p.ahead:
			if next := int(w.lineage.Epoch()) + 1; next < len(p.chain) {
				w.copyAhead(p.chain[next][rnd.Intn(len(p.chain[next]))])
			}
		case x < .25+2*p.restarts+p.wipes+p.rollback+p.ahead+p.rots && rotten < 2:
			w.disks[rnd.Intn(3)].damaged = true
			rotten++
		case len(w.mail) > 0:
			w.deliverRandom(&slow, loss, late)
		}
	}
	return w
}

func (w *world) beginRandom(p *plan, late bool) {
	kinds := p.kinds
	if late {
		kinds = p.late
	}
	values := []string{""}
	for _, o := range w.ops {
		if o.arg != "" {
			values = append(values, o.arg)
		}
	}
	epoch := w.lineage.Epoch()
	if epoch > 0 && w.rnd.Float64() < .1 {
		epoch--
	}
	kind := kinds[w.rnd.Intn(len(kinds))]
	arg := ""
	if kind == 'p' || kind == 'c' || kind == 'v' {
		arg = string(rune('A' + len(w.ops)))
	}
	if len(w.gates) == 0 || w.rnd.Intn(3) > 0 {
		w.gateway(uint64(1 + w.rnd.Intn(5)))
	}
	w.begin(kind, arg, values[w.rnd.Intn(len(values))], epoch, w.gates[w.rnd.Intn(len(w.gates))])
}

func (w *world) deliverRandom(slow *[32][5]bool, loss float64, late bool) {
	m := w.mail[w.rnd.Intn(len(w.mail))]
	for range 6 {
		if m.op < 0 || m.answer != nil || !slow[m.op%32][m.node] || w.rnd.Float64() > .9 {
			break
		}
		m = w.mail[w.rnd.Intn(len(w.mail))]
	}
	chance := .03
	if _, accept := m.ask.(Accept); accept && !late {
		chance = loss
	}
	if w.rnd.Float64() < chance {
		w.lose(m)
		return
	}
	if w.rnd.Intn(50) == 0 { // it is delivered twice
		m.twice = true
		w.hand(m)
		return
	}
	w.deliver(m)
}
