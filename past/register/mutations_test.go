package register

// mutations are the rules, each left out: the traps of the models first, under their names there.
var mutations = []mutation{
	// configuration_model.py
	{name: "inactive_fence", test: "TestInactiveMemberIsNotFrozen", edits: one("member.go",
		`return m.Head(), m.Epoch == epoch && m.Active && m.Fenced`, `return m.Head(), m.Lineage.Epoch() > epoch`)},
	{name: "live_pull", test: "TestOnlyFrozenGroupsArePulled", edits: one("member.go",
		`return m.Head(), m.Epoch == epoch && m.Active && m.Fenced`, `return m.Head(), m.Epoch == epoch && m.Active`)},
	{name: "skip_unchosen", test: "TestUnchosenTombstoneIsKept", edits: one("group.go",
		`return g.Chosen && g.Value.deleted()`, `return g.Value.deleted()`)},
	{name: "no_epoch", test: "TestOldEpochIsNotAnswered", plan: "three epochs", edits: one("member.go",
		`case epoch < m.Epoch || epoch == m.Epoch && m.Fenced || epoch < m.Lineage.Epoch():`, `case false:`)},
	{name: "fast_old_epoch", test: "TestCopiesAreNotVotes", edits: one("operation.go",
		`0, a.Accepted.IsZero() || a.Accepted.Epoch == o.quorum.Epoch`, `0, true`)},
	{name: "noaccept", test: "TestUnsettledIsAcceptedBeforeItIsReported", plan: "one epoch", edits: one("operation.go",
		`if settled && len(o.mine) == 0 {`, `if true {`)},

	// retry_model
	{name: "carried_is_done", test: "TestCarriedIsNotDone", plan: "one epoch, contended", edits: one("retry.go",
		`if total > 0 && accepted.Count() >= Majority(total) {`, `if accepted != 0 && ballot.Proposer != o.proposer {`)},
	{name: "no_dedupe", test: "TestRefusedWriteAsksFirst", plan: "one epoch, contended", edits: one("operation.go",
		`if len(o.mine) > 0 {
		switch`, `if len(o.mine) > 0 && o.req.Op != OpBlind {
		switch`)},
	{name: "cas_absorb", test: "TestSwapIsNotAbsorbed", plan: "one epoch, contended", edits: one("retry.go",
		`if total > 0 && accepted.Count() >= Majority(total) {`, `if total > 0 && accepted.Count() >= Majority(total) || o.req.Op == OpUpdate && accepted != 0 && ballot.Proposer != o.proposer {`)},
	{name: "cas_chain_only", test: "TestSwapLooksBelowTheHighestRecord", plan: "one epoch, contended", edits: one("retry.go",
		`	voters := o.votesFor(o.req.ID)`, `	if o.req.Op == OpUpdate {
		return fateDead
	}
	voters := o.votesFor(o.req.ID)`)},
	{name: "dup_ballot", test: "TestBallotsOfTwoStartsDiffer", plan: "one epoch", edits: one("world_test.go",
		`past.ProposerID{byte(len(w.gates) + 1)}`, `past.ProposerID{1}`)},
	{name: "cross_fresh", test: "TestMovedWriteAsksFirst", plan: "members stay", edits: one("operation.go",
		`o.quorum = in.Quorum`, `o.quorum, o.mine = in.Quorum, nil`)},
	{name: "cross_carried", test: "TestCarriedIsNotDoneAcrossEpochs", edits: one("retry.go",
		`if total > 0 && accepted.Count() >= Majority(total) {`, `if accepted != 0 && ballot.Epoch < o.quorum.Epoch {`)},
	{name: "old_any", test: "TestCopiesAreNotVotes", edits: one("operation.go",
		`settled || same >= o.quorum.majority() && cur.Accepted.Epoch == o.quorum.Epoch`, `settled || same >= o.quorum.majority()`)},
	{name: "refused_with_own_value_out", test: "TestRefusedWithOwnValueOut", plan: "one epoch, contended", edits: one("operation.go",
		`if settled && len(o.mine) == 0 {`, `if settled {`)},

	// acceptors
	{name: "promise_goes_down", plan: "one epoch", edits: one("group.go", `if !g.Promised.Less(b) {`, `if false {`)},
	{name: "prepare_equal", test: "TestPrepareRefusesEqualBallot", edits: one("group.go", `if !g.Promised.Less(b) {`, `if b.Less(g.Promised) {`)},
	{name: "promise_not_kept", plan: "one epoch", edits: one("group.go", `	g.Promised = b
	return p, true`, `	return p, true`)},
	{name: "accept_below_promise", plan: "one epoch", edits: one("group.go", `if a.Ballot.Less(g.Promised) {`, `if a.Ballot.Less(g.Accepted) {`)},
	{name: "accept_anything", plan: "one epoch", edits: one("group.go", `if a.Ballot.Less(g.Promised) {`, `if false {`)},
	{name: "accept_promises_nothing", plan: "one epoch", edits: one("group.go",
		`g.Promised, g.Accepted, g.Chosen = a.Ballot, a.Ballot, false`, `g.Accepted, g.Chosen = a.Ballot, false`)},
	{name: "mark_stays", plan: "one epoch", edits: one("group.go",
		`g.Promised, g.Accepted, g.Chosen = a.Ballot, a.Ballot, false`, `g.Promised, g.Accepted = a.Ballot, a.Ballot`)},
	{name: "mark_of_another_ballot", plan: "one epoch", edits: one("group.go", `if g.Accepted != b || b.IsZero()`, `if b.IsZero()`)},
	{name: "accept_twice", test: "TestAcceptTwiceReplacesNothing", edits: one("group.go", `if a.Ballot == g.Accepted {`, `if false {`)},
	{name: "log_not_kept", plan: "one epoch, contended", edits: one("group.go", `	g.remember(LogEntry{Ballot: a.Ballot`, `	_ = (LogEntry{Ballot: a.Ballot`)},
	{name: "value_shared", plan: "one epoch", edits: one("group.go", `entries := slices.Clone(v.Entries)`, `entries := v.Entries`)},
	{name: "floor_not_raised", plan: "short memory", edits: one("group.go", `		g.Floor = g.Log[over-1].Ballot
`, ``)},
	{name: "lost_not_raised", test: "TestFallenOffTheChainIsUndecided", plan: "short memory", edits: one("group.go",
		`v.Chain, v.Lost = slices.Clone(v.Chain[half:]), v.Turn`, `v.Chain = slices.Clone(v.Chain[half:])`)},
	{name: "turn_not_raised", plan: "short memory", edits: one("group.go",
		`		v.Turn = cur.Accepted //`, `		//`)},
	{name: "chain_not_extended", plan: "one epoch, contended", edits: one("group.go",
		`append(slices.Clone(cur.Value.Chain), op)`, `[]past.OpID{op}`)},
	{name: "chain_without_self", plan: "one epoch, contended", edits: one("group.go",
		`append(slices.Clone(cur.Value.Chain), op)`, `slices.Clone(cur.Value.Chain)`)},

	// snapshots
	{name: "merge_log_dropped", test: "TestMovedWriteAsksFirst", edits: one("group.go", `	for _, e := range frozen.Log {
		g.remember(e)
	}
`, ``)},
	{name: "merge_floor_dropped", test: "TestFloorIsPulled", edits: one("group.go", `if g.Floor.Less(frozen.Floor) {`, `if false {`)},
	{name: "merge_voters_dropped", test: "TestVotersArePulled", edits: one("group.go", `g.Log[i].Voters |= e.Voters`, `g.Log[i].Voters = e.Voters`)},
	{name: "merge_first", plan: "three epochs", edits: one("group.go", `case c < 0:`, `case c < 0 && g.Accepted.IsZero():`)},
	{name: "merge_mark_spreads", test: "TestMergeKeepsTheMarkOfTheHighest", edits: one("group.go",
		`= frozen.Accepted, frozen.Chosen, frozen.Value, frozen.Proof`, `= frozen.Accepted, frozen.Chosen || g.Chosen, frozen.Value, frozen.Proof`)},
	{name: "settled_by_too_few", test: "TestUnchosenTombstoneIsKept", edits: one("member.go", `newest.Voters.Count() >= c.Quorum()`, `newest.Voters.Count()+1 >= c.Quorum()`)},
	{name: "one_snapshot_less", test: "TestInactiveMemberIsNotFrozen", plan: "three epochs", edits: one("member.go", `return len(e.heads) >= e.before.Quorum()`, `return len(e.heads)+1 >= e.before.Quorum()`)},
	{name: "survivor_not_fenced", test: "TestSurvivorsGoAhead", edits: []edit{
		{"member.go", ` || epoch < m.Lineage.Epoch():`, `:`},
		{"member.go", "	m.Fence(c.Epoch - 1)\n", ""},
		{"member.go", `return m.Head(), m.Epoch == epoch && m.Active && m.Fenced`, `return m.Head(), m.Epoch == epoch && m.Active`}}},
	{name: "not_active_is_empty", plan: "three epochs", edits: one("member.go", `case epoch > m.Epoch || !m.Active:`, `case false:`)},
	{name: "witnesses_overstated", test: "TestCarriedIsNotDoneAcrossEpochs", edits: one("member.go", `pulled.From |= 1 << from`, `pulled.From |= 1<<pulled.Total - 1 | 1<<from`)},
	{name: "dropped_floor_ignored", test: "TestFloorOfDroppedGroups", edits: one("member.go", `	m.Forgotten = e.dropped
`, `	m.Forgotten = past.Ballot{}
`)},
	{name: "pulled_floor_ignored", test: "TestFloorOfDroppedGroups", edits: one("member.go", `		if m.Forgotten.Less(head.Forgotten) {`, `		if false {`)},
	{name: "absent_without_floor", test: "TestFloorOfDroppedGroups", edits: one("member.go", `return Group{Floor: m.Forgotten}`, `return Group{}`)},
	{name: "frozen_groups_taken_along", test: "TestSurvivorsGoAhead", edits: one("member.go", `m.Kept = &Kept{Epoch: e.before.Epoch, Head: head}`, `_ = head`)},

	// copies ahead of a change
	{name: "journal_notes_nothing", test: "TestCopiedAheadIsBroughtUpToDate", plan: "copied ahead", edits: one("journal.go", `	j.changed[group] = j.seq
`, ``)},
	{name: "journal_of_any_start", test: "TestCopiedAheadFromAnEarlierStart", edits: one("journal.go", `p.IsZero() || p.Journal != j.id ||`, `p.IsZero() ||`)},
	{name: "journal_of_any_epoch", test: "TestJournal", edits: one("journal.go", ` || epoch != j.epoch {
		return nil`, ` {
		return nil`)},
	{name: "journal_off_by_one", test: "TestCopiedAheadIsBroughtUpToDate", edits: one("journal.go", `seq > p.Seq &&`, `seq > p.Seq+1 &&`)},
	{name: "journal_unbounded", test: "TestJournalIsBounded", edits: one("journal.go", `if len(j.changed) > journalMax {`, `if false {`)},

	// proposers
	{name: "majority_off_by_one", plan: "one epoch", edits: one("doc.go", `return n/2 + 1`, `return max(1, n/2)`)},
	{name: "accepted_by_too_few", plan: "one epoch", edits: one("operation.go", `if o.acks.Count() < o.quorum.majority() {`, `if o.acks.Count()+1 < o.quorum.majority() {`)},
	{name: "promised_by_too_few", plan: "one epoch", edits: one("operation.go", `if len(o.promise) < o.quorum.majority() {`, `if len(o.promise)+1 < o.quorum.majority() {`)},
	{name: "read_by_too_few", plan: "one epoch", edits: one("operation.go", `if same >= o.quorum.majority() && chosen && with != nil {`, `if same+1 >= o.quorum.majority() && chosen && with != nil {`)},
	{name: "split_read_waits", test: "TestSplitReadDoesNotWait", edits: one("operation.go", `	case len(o.reads) >= o.quorum.majority():
		o.startPrepare(out)`, `	case false:`)},
	{name: "damage_retried", test: "TestDamagedMajority", edits: one("operation.go", `if o.damaged.Count() > o.quorum.Members-o.quorum.majority() {`, `if false {`)},
	{name: "damage_of_a_minority", test: "TestDamagedMajority", edits: one("operation.go", `if o.damaged.Count() > o.quorum.Members-o.quorum.majority() {`, `if o.damaged != 0 {`)},
	{name: "damaged_is_undone", test: "TestDamagedMajority", plan: "damaged disks", edits: one("operation.go", `	if len(o.mine) > 0 {
		err = past.ErrUnknown`, `	if len(o.mine) > 0 && err != past.ErrDamaged {
		err = past.ErrUnknown`)},
	{name: "damage_outlives_its_phase", test: "TestDamageIsOfItsEpoch", edits: one("operation.go", `o.failed, o.damaged = phaseRead, o.round+1, 0, 0, 0`, `o.failed = phaseRead, o.round+1, 0, 0`)},
	{name: "any_promise", plan: "one epoch", edits: one("operation.go", `if cur.Accepted.Less(p.Group.Accepted) {`, `if cur.Accepted.IsZero() {`)},
	{name: "blind_again", test: "TestRefusedWriteAsksFirst", plan: "one epoch, contended", edits: one("operation.go", `case o.req.Op == OpBlind && len(o.mine) == 0:`, `case o.req.Op == OpBlind:`)},
	{name: "given_up_is_undone", plan: "one epoch", edits: one("operation.go", `	if len(o.mine) > 0 {
		err = past.ErrUnknown`, `	if len(o.mine) > 1 {
		err = past.ErrUnknown`)},
	{name: "silence_is_denial", plan: "one epoch, contended", edits: one("retry.go", `		for member := range o.promise {
			seen |= 1 << member
		}`, `		seen = 1<<o.quorum.Members - 1`)},
	{name: "dead_off_by_one", plan: "one epoch, contended", edits: one("retry.go", `total-denied.Count() >= Majority(total)`, `total-denied.Count() > Majority(total)`)},
	{name: "unknown_epoch_is_dead", test: "TestEpochsTooLongAgo", edits: one("retry.go", `total == 0 || total-`, `total-`)},
	{name: "floor_ignored", test: "TestFloorLeavesUndecided", plan: "short memory", edits: one("retry.go", `if !p.Group.Floor.Less(first) {`, `if false {`)},
	{name: "lost_ignored", test: "TestFallenOffTheChainIsUndecided", plan: "short memory", edits: one("retry.go", `if !e.Lost.Less(first) &&`, `if false &&`)},
	{name: "member_speaks_for_others", test: "TestMemberSpeaksForItself", edits: one("retry.go", `voters[e.Ballot] |= e.Voters & (1 << from)`, `voters[e.Ballot] |= e.Voters & (1<<from | e.Voters)`)},
	{name: "stranger_counted", test: "TestPlacesOutsideTheConfigurationAreIgnored", edits: one("operation.go", `return place >= 0 && place < q.Members`, `return place >= 0`)},
	{name: "wiped_disk_begins_again", plan: "a wiped disk", edits: []edit{ // as the member it was; its boot count would give it away
		{"boot.go", `	case !told.follows(b.Seen[i].Boot):`, `	case !told.follows(told):`},
		{"world_change_test.go", `	w.disks[node] = &disk{id: id, groups: map[string]Group{}}
`, `	w.disks[node] = &disk{id: w.disks[node].id, groups: map[string]Group{}, m: Member{Lineage: Lineage{Genesis: w.chain[0]}, Active: true}}
`}}},

	// rolled-back disks
	{name: "boot_count_ignored", test: "TestRolledBackDiskIsRefused", plan: "a disk rolled back", edits: one("boot.go", `	case !told.follows(b.Seen[i].Boot):`, `	case !told.follows(told):`)},
	{name: "boot_starts_ignored", test: "TestRolledBackDiskIsRefused", plan: "a disk rolled back", edits: one("boot.go", `		return b.Earlier[len(b.Earlier)-int(ago)] == old.Start`, `		return true`)},
	{name: "boot_same_count_passes", test: "TestRolledBackDiskIsRefused", plan: "a disk rolled back", edits: one("boot.go", `		return b.Start == old.Start`, `		return true`)},
	{name: "boot_confirmed_by_none", test: "TestGreeting.*", edits: one("boot.go", `return !g.refused && g.self >= 0 && g.confirmed.Count() >= Majority(len(g.members))`, `return !g.refused && g.self >= 0`)},
	{name: "boot_refusal_ignored", test: "TestGreeting.*", edits: one("boot.go", `return !g.refused && g.self >= 0 && `, `return g.self >= 0 && `)},

	// the choice of the next configuration
	{name: "slot_forgets_promise", test: "TestSuccession.*", edits: one("member.go", `	slot.Promised = b
	return before, true`, `	return before, true`)},
	{name: "slot_accepts_below", test: "TestSuccession.*", edits: one("member.go", `	if b.Less(slot.Promised) {`, `	if false {`)},
	{name: "slot_promises_below", test: "TestSuccession.*", edits: one("member.go", `	if !slot.Promised.Less(b) {`, `	if false {`)},
	{name: "change_wants_its_own", test: "TestSuccession.*", edits: one("change.go", `highest, c.value = s.Accepted, s.Value`, `highest = s.Accepted`)},
	{name: "change_promised_by_too_few", test: "TestSuccession.*", edits: one("change.go", `if len(c.promises) < c.from.Quorum() {`, `if len(c.promises)+1 < c.from.Quorum() {`)},
	{name: "change_voted_by_too_few", test: "TestSuccession.*", edits: one("change.go", `if len(c.votes) < c.from.Quorum() {`, `if len(c.votes)+1 < c.from.Quorum() {`)},
	{name: "inactive_votes", test: "TestInactiveMemberHasNoVote", edits: one("member.go", ` && c.Index(self) >= 0 && m.Active && m.Epoch == epoch`, ` && c.Index(self) >= 0`)},
	{name: "votes_counted_twice", test: "TestCertificate.*", edits: one("configuration.go", `if voters.Count() < from.Quorum() {`, `if len(c.Votes) < from.Quorum() {`)},
	{name: "votes_unchecked", test: "TestCertificate.*", edits: one("configuration.go", `if err := check(from.Members[v.Member], message, v.Signature); err != nil {`, `if err := error(nil); len(message) == 0 && err != nil {`)},
	{name: "succession_of_another", test: "TestCertificate.*", edits: one("configuration.go", `if s.Partition != from.Partition || s.Epoch != from.Epoch {`, `if false {`)},
	{name: "range_not_covered", test: "TestCertificate.*", edits: one("configuration.go", `if lower != from.Upper {`, `if false {`)},
	{name: "range_overlaps", test: "TestCertificate.*", edits: one("configuration.go", ` || c.Lower != lower {`, ` {`)},
	{name: "wiped_disk_is_member", test: "TestWipedDiskIsNoMember", edits: one("configuration.go", `return slices.Index(c.Members, m) }`, `return c.IndexNode(m.Node) }`)},
}
