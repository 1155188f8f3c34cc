package pastry

import (
	"math"
	"time"
)

const (
	repairSoon      = 200 * time.Millisecond // after a loss
	repairAfterJoin = 5 * time.Second
	rowsAfterJoin   = 3 * time.Second // the second stage of join: the first exchange of rows; each later one waits twice as long
	sweepProbesMax  = 32              // in one sweep step
	deathsKept      = 16
	targetLoss      = 0.05 // raw loss rate that self-tuning aims at: lookups that meet a dead hop (MSPastry §4.1)
)

// heartbeat tells the left neighbour that this node lives, and suspects the right one if that has not told it. Whoever is
// beside a dead node finds out so; the rest of its leaf set hears of it (MSPastry §4.1).
func (n *Node) heartbeat() {
	n.schedule(taskHeartbeat, n.now+n.cfg.HeartbeatEvery)
	if left := n.leafs.Smaller(); len(left) > 0 {
		n.send(left[0], &Message{Kind: Heartbeat})
	}
	if right := n.leafs.Larger(); len(right) > 0 && !n.heardWithin(right[0].ID, n.cfg.HeartbeatEvery+n.cfg.HeartbeatEvery/4) {
		n.probe(right[0], probePing, true)
	}
}

// repairLeafs exchanges leaf sets with one member, in turn; after a loss with the farthest on each side, who know best what lies
// behind (Pastry §2.4). It is periodic, so that a burst of failures does not become a burst of repairs (Bamboo §3.1).
func (n *Node) repairLeafs() {
	n.schedule(taskLeafRepair, n.now+n.jitter(n.cfg.LeafRepairEvery))
	if n.leafs.Len() == 0 {
		if n.phase == ready {
			n.considerPeersAsLeafs()
		}
		return
	}
	if n.now < n.settled || n.phase == probing {
		for _, side := range n.leafs.sides {
			if len(side) > 0 {
				n.probe(side[len(side)-1], probeLeafs, false)
			}
		}
		return
	}
	all := n.leafHandles()
	n.leafProbesOut++
	n.probe(all[n.leafProbesOut%len(all)], probeLeafs, false)
}

// exchangeRows asks, for each row, one entry of it for its own, and so finds nearer ones (Pastry §2.4 by way of MSPastry §4.2).
// Right after the join, when the table is what the way happened to offer, it does so often; then ever less.
func (n *Node) exchangeRows() {
	n.schedule(taskRowExchange, n.now+n.jitter(min(rowsAfterJoin<<min(n.rowExchanges+1, 16), n.cfg.RowExchangeEvery)))
	n.rowExchanges = min(n.rowExchanges+1, 16)
	for row := range n.table.Rows() {
		n.askForRow(row)
	}
}

// askForRow asks one entry of a row for its own, since one that shares a prefix has the same row.
func (n *Node) askForRow(row int) {
	start := len(n.out.handles)
	n.out.handles = n.table.AppendRow(n.out.handles, row)
	entries := n.out.handles[start:]
	if len(entries) > 0 {
		n.send(entries[n.cfg.Rand.IntN(len(entries))], &Message{Kind: RowRequest, Seq: n.nextSeq(), Row: uint8(row)})
	}
	n.out.handles = n.out.handles[:start]
}

// lookForSeeds keeps looking for other rings, for ever.
func (n *Node) lookForSeeds() {
	n.schedule(taskSeeds, n.now+n.jitter(n.cfg.SeedEvery))
	n.out.FindSeeds = n.cfg.Seeded
}

// sweep probes, in turn, the known nodes that were not heard for a whole round, which takes sweepPeriod.
func (n *Node) sweep() {
	period := n.sweepPeriod()
	steps := max(len(n.peers)/4, 1)
	n.schedule(taskSweep, n.now+max(period/time.Duration(steps), 100*time.Millisecond))
	n.prunePeers()
	each := (len(n.peers) + steps - 1) / steps
	for range min(each, sweepProbesMax) {
		i, found := n.findPeer(n.sweepAt)
		if found {
			i++
		}
		if i >= len(n.peers) {
			i = 0
		}
		if len(n.peers) == 0 {
			return
		}
		n.sweepAt = n.peers[i].id
		if h, ok := n.Find(n.sweepAt); ok && !n.heardWithin(h.ID, period) {
			n.probe(h, probePing, false)
		}
	}
}

// sweepPeriod is MSPastry's self-tuned probing period: with the failure rate that this node sees, and the ring's size as the
// density of the leaf set tells it, the longest at which lookups meet a dead hop no more often than targetLoss. MSPastry
// takes the median of its peers' estimates; we take our own.
func (n *Node) sweepPeriod() time.Duration {
	rate := n.deaths.rate(n.now, len(n.peers)+1) // per node and second
	if rate == 0 {
		return n.cfg.ProbeSweepMax
	}
	hops := math.Log(n.RingSize()) / (math.Ln2 * float64(n.cfg.DigitBits))
	detect := n.cfg.ProbeTimeout.Seconds() * float64(int(1)<<n.cfg.ProbeTries-1)
	last := 1 - deadOnUse(rate, n.cfg.HeartbeatEvery.Seconds()+detect)
	lo, hi := n.cfg.ProbeSweepMin, n.cfg.ProbeSweepMax
	for hi-lo > time.Second {
		mid := (lo + hi) / 2
		loss := 1 - last*math.Pow(1-deadOnUse(rate, mid.Seconds()+detect), max(hops-1, 0))
		if loss > targetLoss {
			hi = mid
		} else {
			lo = mid
		}
	}
	return lo
}

// deadOnUse is the probability that a node which fails at rate, and whose death is found out up to t seconds later, is dead when
// a message is handed to it (MSPastry §4.1).
func deadOnUse(rate, t float64) float64 {
	x := rate * t
	if x < 1e-9 {
		return 0
	}
	return 1 - (1-math.Exp(-x))/x
}

// RingSize estimates how many nodes there are from how densely the leaf set lies.
func (n *Node) RingSize() float64 {
	if n.leafs.Wraps() || n.leafs.Len() == 0 {
		return float64(n.leafs.Len() + 1)
	}
	span, members := 0.0, 0
	for s, side := range n.leafs.sides {
		if len(side) > 0 {
			reach := Side(s).offset(n.self.ID, side[len(side)-1].ID)
			span += float64(reach.hi) + float64(reach.lo)/(1<<64)
			members += len(side)
		}
	}
	return max(float64(members)*(1<<64)/max(span, 1), float64(n.leafs.Len()+1))
}

// deaths remembers when the last failures were.
type deaths struct {
	at    [deathsKept]time.Duration
	count int // ever; the newest is at[(count-1)%deathsKept]
}

func (d *deaths) add(now time.Duration) {
	d.at[d.count%deathsKept] = now
	d.count++
}

// rate is failures per second for each of nodes: over the time since the oldest remembered, as if one happened now.
func (d *deaths) rate(now time.Duration, nodes int) float64 {
	if d.count == 0 {
		return 0
	}
	kept := min(d.count, deathsKept)
	oldest := d.at[(d.count-kept)%deathsKept]
	return float64(kept) / (max((now-oldest).Seconds(), 1) * float64(nodes))
}

// sendLeafs sends this node's leaf set.
func (n *Node) sendLeafs(to NodeHandle, kind Kind, seq uint32) {
	n.send(to, &Message{Kind: kind, Seq: seq, Handles: n.leafHandles()})
}

// leafHandles returns the members of the leaf set, in the outbox's memory.
func (n *Node) leafHandles() []NodeHandle {
	start := len(n.out.handles)
	n.out.handles = n.leafs.AppendMembers(n.out.handles)
	return n.out.handles[start:len(n.out.handles):len(n.out.handles)]
}
