package admin

import (
	"time"

	"larder/gateway/objects"
)

// Audit is what audits of claims by this node's gateway found since its start (docs/notes/audit.md). Fragments are counted anew in each
// pass. Undecided ones wait for a pass in which more can be known; disputed are those of which nodes claim different things.
type Audit struct {
	Passes           int64     `json:"passes"`
	PassEnded        time.Time `json:"passEnded,omitzero"`
	Fragments        int64     `json:"fragments"`
	Undecided        int64     `json:"undecided"`
	Disputed         int64     `json:"disputed"`
	ReclaimedStripes int64     `json:"reclaimedStripes"`
}

// audit is nil on a node without a gateway.
func (s *server) audit() *Audit {
	store := s.Objects()
	if store == nil {
		return nil
	}
	st := store.AuditStatus()
	return &Audit{Passes: st.Passes, PassEnded: st.PassEnded, Fragments: st.Fragments, Undecided: st.Undecided, Disputed: st.Disputed, ReclaimedStripes: st.Reclaimed}
}

var (
	auditPasses    = metric("audit_passes_total", "Passes of this gateway's audits of claims.")
	auditFragments = metric("audit_fragments_total", "Fragments that audits looked at, by what they found.", "found")
	auditUnlisted  = metric("audit_unlisted_total", "Nodes that an audit could not look through to the end.")
	auditDisputed  = metric("audit_disputed_total", "Blocks of which nodes claim different things.")
	auditEnded     = metric("audit_ended_timestamp_seconds", "When the last pass ended; 0 before it.")
)

// collectAudit sends zeros where there is no gateway: what is not sent at the first time may not be sent later.
func (c *collector) collectAudit(s sink) {
	var st objects.AuditStatus
	if store := c.objects(); store != nil {
		st = store.AuditStatus()
	}
	counter(s, auditPasses, st.Passes)
	for found, n := range map[string]int64{"referenced": st.Referenced, "young": st.Young, "undecided": st.Undecided, "orphan": st.Reclaimed} {
		counter(s, auditFragments, n, found)
	}
	counter(s, auditUnlisted, st.Unlisted)
	counter(s, auditDisputed, st.Disputed)
	ended := 0.0
	if !st.PassEnded.IsZero() {
		ended = float64(st.PassEnded.UnixNano()) / 1e9
	}
	gauge(s, auditEnded, ended)
}
