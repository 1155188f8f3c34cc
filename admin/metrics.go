package admin

import (
	"strconv"

	"larder/gateway/objects"
	"larder/past/chb"
	"larder/past/node"
	"larder/past/register"
	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/quicnet"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads the node's figures when it is scraped. It costs one question to the overlay and no disk access.
type collector struct {
	node      *node.Node
	objects   func() *objects.Store // may give nil
	transport func() quicnet.Stats  // may be nil
}

// metric describes one metric and the labels that it has, if any.
func metric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("larder_"+name, help, labels, nil)
}

var (
	storeCapacity = metric("store_capacity_bytes", "What this node's store may use of the disk.")
	storeLive     = metric("store_live_bytes", "Live fragments of this node, with their framing.")
	storeTrash    = metric("store_trash_bytes", "Trashed fragments of this node.")
	storeFree     = metric("store_free_bytes", "What fragments may still take on this node.")

	fragments        = metric("fragments", "Live fragments of this node.")
	fragmentsMissing = metric("fragments_missing", "Fragments that are nowhere and being worked on, counted at the first live holder of their blocks.")
	fragmentsDebt    = metric("fragments_debt", "Fragments that have no node to be on, as of the last pass.")
	fragmentsCorrupt = metric("fragments_corrupt", "Fragments of this node found corrupt and not mended yet.")
	fragmentsFound   = metric("fragments_found_corrupt_total", "Fragments of this node found corrupt.")
	fragmentsMended  = metric("fragments_mended_total", "Corrupt fragments of this node that were replaced.")
	fragmentsRefused = metric("fragments_refused_total", "Fragments that did not prove themselves.")
	lies             = metric("fragments_lied_total", "Bad answers that other nodes gave about fragments.")
	blocksTroubled   = metric("blocks_troubled", "Blocks that are not as they should be.")
	blocksWhole      = metric("blocks_whole", "1 if a repair pass on the present membership found nothing to do.")
	scrubbed         = metric("scrub_ended_timestamp_seconds", "When the last scrub ended; 0 before it.")

	repairPasses  = metric("repair_passes_total", "Repair passes that ended.")
	repairChecked = metric("repair_pass_checked_fragments", "Fragments looked at in the repair pass that runs, or in the last one.")
	repairToCheck = metric("repair_pass_fragments", "Fragments to look at in the repair pass that runs, or in the last one.")
	repaired      = metric("repair_fragments_total", "What repair did with fragments.", "action")

	inserts         = metric("inserts_total", "Stripes inserted by this node.")
	diverted        = metric("inserts_diverted_total", "Fragments put elsewhere than their first place.")
	lookups         = metric("lookups_total", "Stripes looked up by this node.")
	lookupsHedged   = metric("lookups_hedged_total", "Lookups that asked further nodes because some were slow.")
	lookupsExamined = metric("lookups_examined_total", "Lookups whose first bytes did not prove themselves.")
	reclaimsQueued  = metric("reclaims_queued", "Reclaims waiting to be told to the nodes.")
	reclaimsDropped = metric("reclaims_dropped_total", "Reclaims given up; audits find their blocks.")

	partitions = metric("partitions", "Partitions that this node's disk is a member of, by whether it answers for them.", "state")

	registerOps       = metric("register_operations_total", "Register operations proposed by this node.", "operation")
	registerRetries   = metric("register_retries_total", "Register operations tried again.")
	registerHedges    = metric("register_hedges_total", "Register reads that asked further members because some were slow.")
	registerBadProofs = metric("register_bad_proofs_total", "Records and lineages that did not prove themselves.")
	registerUndecided = metric("register_undecided_total", "Register writes that ended without a known outcome.")

	rpcSent      = metric("rpc_sent_total", "Requests to PAST nodes, this one included.")
	rpcFailed    = metric("rpc_failed_total", "Of those, such as got no answer.")
	rpcAnswered  = metric("rpc_answered_total", "Requests of PAST nodes answered.")
	rpcRefused   = metric("rpc_refused_total", "Requests refused for want of a role.")
	rpcBadFrames = metric("rpc_bad_frames_total", "Requests that do not decode.")

	overlayReady    = metric("overlay_ready", "1 while this node delivers.")
	leafSetSize     = metric("overlay_leaf_set_nodes", "Members of the leaf set.")
	tableSize       = metric("overlay_routing_table_nodes", "Filled entries of the routing table.")
	neighborhood    = metric("overlay_neighborhood_nodes", "Members of the neighborhood set.")
	ringSize        = metric("overlay_ring_nodes", "Nodes of the ring, estimated from the density of the leaf set.")
	overlayLookups  = metric("overlay_lookups_total", "Lookups of this node that were answered, by hops; 15 stands for all above.", "hops")
	lookupRetries   = metric("overlay_lookup_retries_total", "Lookups asked again.")
	lookupsLost     = metric("overlay_lookups_lost_total", "Lookups that nobody answered.")
	messages        = metric("overlay_messages_total", "Overlay messages.", "direction", "kind")
	messagesDropped = metric("overlay_messages_dropped_total", "Overlay messages that came faster than they could be taken.")
	messagesRefused = metric("overlay_messages_refused_total", "Overlay messages that do not decode, or make no sense.")
	routed          = metric("overlay_routed_total", "Routed messages, by what became of them here.", "end")
	nodeFailures    = metric("overlay_node_failures_total", "Nodes declared failed.")
	nodeReturns     = metric("overlay_node_returns_total", "Nodes that had failed and were heard of again.")
	joinsHelped     = metric("overlay_joins_helped_total", "Joiners let in.")

	quicLinks    = metric("quic_links", "Connections to other nodes.")
	quicDials    = metric("quic_dials_total", "Connections begun by this node.")
	quicFailed   = metric("quic_dials_failed_total", "Of those, such as failed.")
	quicAccepted = metric("quic_accepted_total", "Connections that other nodes made.")
	quicRefused  = metric("quic_refused_total", "Handshakes turned away.")
	quicMessages = metric("quic_messages_total", "Messages over QUIC.", "direction")
	quicDropped  = metric("quic_messages_dropped_total", "Messages not sent: queue full, peer not reached, or connection lost.")
	quicStreams  = metric("quic_streams_total", "Streams over QUIC.", "direction")
	quicOffences = metric("quic_offences_total", "Malformed, oversized or endless messages and streams.")
)

// Describe implements prometheus.Collector: what Collect sends.
func (c *collector) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, out) }

// sink sends metrics.
type sink chan<- prometheus.Metric

func number[N int | int64 | uint64 | float64](s sink, kind prometheus.ValueType, d *prometheus.Desc, n N, labels ...string) {
	s <- prometheus.MustNewConstMetric(d, kind, float64(n), labels...)
}

func gauge[N int | int64 | uint64 | float64](s sink, d *prometheus.Desc, n N, labels ...string) {
	number(s, prometheus.GaugeValue, d, n, labels...)
}

func counter[N int | int64 | uint64 | float64](s sink, d *prometheus.Desc, n N, labels ...string) {
	number(s, prometheus.CounterValue, d, n, labels...)
}

func flag(is bool) int {
	if is {
		return 1
	}
	return 0
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	blocks, ring := c.node.Blocks().Status(), c.node.Overlay().State()
	collectStore(out, &blocks)
	collectRepair(out, &blocks)
	c.collectRegisters(out)
	c.collectRPC(out)
	c.collectAudit(out)
	collectRing(out, &ring)
	if c.transport != nil {
		collectTransport(out, c.transport())
	}
}

func collectStore(s sink, b *chb.Status) {
	gauge(s, storeCapacity, b.CapacityBytes)
	gauge(s, storeLive, b.LiveBytes)
	gauge(s, storeTrash, b.TrashBytes)
	gauge(s, storeFree, b.FreeBytes)
	gauge(s, fragments, b.Fragments)
	counter(s, inserts, b.Inserts)
	counter(s, diverted, b.Diverted)
	counter(s, lookups, b.Lookups)
	counter(s, lookupsHedged, b.Hedged)
	counter(s, lookupsExamined, b.Examined)
	counter(s, fragmentsRefused, b.Refused)
	gauge(s, reclaimsQueued, b.ReclaimsQueued)
	counter(s, reclaimsDropped, b.ReclaimsDropped)
	var lied int64
	for _, n := range b.LiedBy { // by node it would be as many metrics as a liar likes
		lied += n
	}
	counter(s, lies, lied)
}

func collectRepair(s sink, b *chb.Status) {
	gauge(s, fragmentsMissing, b.Missing)
	gauge(s, fragmentsDebt, b.Debts)
	gauge(s, fragmentsCorrupt, b.CorruptNow)
	counter(s, fragmentsFound, b.CorruptFound)
	counter(s, fragmentsMended, b.Mended)
	gauge(s, blocksTroubled, b.Troubles)
	gauge(s, blocksWhole, flag(b.Whole))
	ended := 0.0
	if !b.Scrubbed.IsZero() {
		ended = float64(b.Scrubbed.UnixNano()) / 1e9
	}
	gauge(s, scrubbed, ended)
	counter(s, repairPasses, b.Passes)
	gauge(s, repairChecked, b.PassDone)
	gauge(s, repairToCheck, b.PassTotal)
	for action, n := range map[string]int64{"moved": b.Moved, "rebuilt": b.Rebuilt, "restored": b.Restored, "surplus": b.Surplus} {
		counter(s, repaired, n, action)
	}
}

func (c *collector) collectRegisters(s sink) {
	states := map[string]int{"active": 0, "fenced": 0, "waiting": 0, "past": 0}
	self := c.node.Overlay().Self().ID
	for _, m := range c.node.Members().Partitions() {
		states[memberState(&m, self)]++
	}
	for state, n := range states {
		gauge(s, partitions, n, state)
	}
	r := c.node.Registers()
	if r == nil {
		return
	}
	st := r.Stats()
	counter(s, registerOps, st.Reads.Load(), "read")
	counter(s, registerOps, st.Writes.Load(), "write")
	counter(s, registerRetries, st.Retries.Load())
	counter(s, registerHedges, st.Hedges.Load())
	counter(s, registerBadProofs, st.BadProofs.Load())
	counter(s, registerUndecided, st.Undecided.Load())
}

// memberState is whether this disk answers for a partition: active; fenced, between two epochs; waiting, before it has pulled; or past,
// which it is no member of any more.
func memberState(m *register.Member, self pastry.NodeID) string {
	switch {
	case len(m.Lineage.Genesis.Members) == 0 || m.Lineage.Current().IndexNode(self) < 0:
		return "past"
	case m.Fenced:
		return "fenced"
	case m.Active:
		return "active"
	}
	return "waiting"
}

func (c *collector) collectRPC(s sink) {
	st := c.node.Peers().Stats()
	counter(s, rpcSent, st.Sent.Load())
	counter(s, rpcFailed, st.Failed.Load())
	counter(s, rpcAnswered, st.Answered.Load())
	counter(s, rpcRefused, st.Refused.Load())
	counter(s, rpcBadFrames, st.BadFrames.Load())
}

func collectRing(s sink, st *overlay.Snapshot) {
	c := &st.Stats
	gauge(s, overlayReady, flag(st.Ready))
	leafs := map[pastry.NodeID]bool{}
	for _, side := range [][]pastry.NodeHandle{st.Smaller, st.Larger} {
		for _, h := range side {
			leafs[h.ID] = true
		}
	}
	gauge(s, leafSetSize, len(leafs))
	filled := 0
	for _, row := range st.Rows {
		filled += len(row)
	}
	gauge(s, tableSize, filled)
	gauge(s, neighborhood, len(st.Near))
	gauge(s, ringSize, st.RingSize)
	for hops, n := range c.Lookups {
		counter(s, overlayLookups, n, strconv.Itoa(hops))
	}
	counter(s, lookupRetries, c.LookupRetries)
	counter(s, lookupsLost, c.LookupsLost)
	for kind := pastry.Kind(1); kind < pastry.KindMax; kind++ {
		counter(s, messages, c.Sent[kind], "sent", kind.String())
		counter(s, messages, c.Received[kind], "received", kind.String())
	}
	counter(s, messagesDropped, st.Dropped)
	counter(s, messagesRefused, st.Refused+c.Forged+c.Senseless+c.HopLimit+c.Overflow)
	for end, n := range map[string]uint64{"delivered": c.Delivered, "forwarded": c.Forwarded, "rerouted": c.Rerouted, "retransmitted": c.Retransmitted} {
		counter(s, routed, n, end)
	}
	counter(s, nodeFailures, c.Failures)
	counter(s, nodeReturns, c.Returned)
	counter(s, joinsHelped, c.Helped)
}

func collectTransport(s sink, t quicnet.Stats) {
	gauge(s, quicLinks, t.Links)
	counter(s, quicDials, t.Dials)
	counter(s, quicFailed, t.DialsFailed)
	counter(s, quicAccepted, t.Accepted)
	counter(s, quicRefused, t.Refused)
	counter(s, quicMessages, t.MessagesSent, "sent")
	counter(s, quicMessages, t.MessagesReceived, "received")
	counter(s, quicDropped, t.MessagesDropped)
	counter(s, quicStreams, t.StreamsOpened, "opened")
	counter(s, quicStreams, t.StreamsAccepted, "accepted")
	counter(s, quicOffences, t.Offences)
}
