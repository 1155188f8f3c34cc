package pkb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	"larder/pastry"
)

// Scan returns a page of live registers (objects.Registers). It asks a majority for the same range: entries from the nearest
// member, names and ballots from the others. What they show alike is listed; anything else is read first, as Read would.
func (r *Registers) Scan(ctx context.Context, q past.ScanQuery) (past.ScanPage, error) {
	rt, err := r.route(q.Bucket)
	if err != nil {
		return past.ScanPage{}, err
	}
	s := &scan{r: r, ctx: ctx, rt: rt, q: q, lower: firstName(q), upper: string(after([]byte(keyPrefix(q.Space, q.Prefix))))}
	return s.page()
}

// firstName is the smallest group name that the query may return.
func firstName(q past.ScanQuery) string {
	first := keyPrefix(q.Space, q.Prefix)
	if q.After == "" && q.AfterSub == "" {
		return first
	}
	var next string
	if q.AfterPrefix {
		next = string(after([]byte(keyPrefix(q.Space, q.After))))
	} else {
		next = groupName(q.Space, q.After, q.AfterSub) + "\x00"
		if q.AfterSub == "" { // all registers of the object key
			next = string(after([]byte(groupName(q.Space, q.After, ""))))
		}
	}
	return max(first, next)
}

type scan struct {
	r            *Registers
	ctx          context.Context
	rt           *route
	q            past.ScanQuery
	lower, upper string
	out          past.ScanPage
	more         bool // something live is known to come after a full page
}

func (s *scan) page() (past.ScanPage, error) {
	for s.lower < s.upper {
		if len(s.out.Entries) >= s.q.Max {
			more, err := s.anyLive()
			s.out.Truncated = more
			return s.out, err
		}
		answers, epoch, err := s.r.scanMajority(s.ctx, s.rt, s.request(min(scanRowsMax, s.q.Max-len(s.out.Entries)+1)))
		if err != nil {
			return past.ScanPage{}, err
		}
		if err := s.merge(answers, epoch); err != nil {
			return past.ScanPage{}, err
		}
	}
	return s.out, nil
}

func (s *scan) request(limit int) scanRequest {
	return scanRequest{Lower: s.lower, Upper: s.upper, Fold: s.q.Delimiter, Skip: len(s.q.Prefix), Max: limit, WithValues: true}
}

// anyLive reports whether there is anything to list in what is left.
func (s *scan) anyLive() (bool, error) {
	if s.more {
		return true, nil
	}
	probe := *s
	probe.q.Max, probe.out = 1, past.ScanPage{}
	for probe.lower < probe.upper && len(probe.out.Entries) == 0 {
		answers, epoch, err := s.r.scanMajority(s.ctx, s.rt, probe.request(8))
		if err != nil {
			return false, err
		}
		if err := probe.merge(answers, epoch); err != nil {
			return false, err
		}
	}
	return len(probe.out.Entries) > 0, nil
}

// merge adds to the page what the answers settle, as far as all of them reach, and moves s.lower behind it.
func (s *scan) merge(answers []scanAnswer, epoch uint64) error {
	reach := s.upper // everything below it is in the answers
	byName := map[string][]*scanRow{}
	var names []string
	for i := range answers {
		rows := answers[i].Rows
		if answers[i].More {
			reach = min(reach, behind(&rows[len(rows)-1], s.q.Space))
		}
		for j := range rows {
			row := &rows[j]
			if row.Group < s.lower || row.Group >= s.upper {
				return fmt.Errorf("past: scan: row out of range: %w", past.ErrUnavailable)
			}
			if byName[row.Group] == nil {
				names = append(names, row.Group)
			}
			byName[row.Group] = append(byName[row.Group], row)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if name < s.lower {
			continue // behind a common prefix that was listed
		}
		if name >= reach || len(s.out.Entries) >= s.q.Max {
			_, live, settled := settledRow(byName[name], len(answers), epoch)
			s.more = settled && live && name < reach
			s.lower = max(s.lower, min(name, reach))
			return nil
		}
		live, err := s.take(name, byName[name], len(answers), epoch)
		if err != nil {
			return err
		}
		if !live && slices.ContainsFunc(byName[name], func(r *scanRow) bool { return r.Prefix != "" }) {
			return nil // it stood for others that nobody has shown: ask again from here
		}
	}
	s.lower = max(s.lower, reach)
	return nil
}

// behind is the smallest name that the row's answer says nothing about.
func behind(row *scanRow, space past.Space) string {
	if row.Prefix != "" {
		return string(after([]byte(keyPrefix(space, row.Prefix))))
	}
	return row.Group + "\x00"
}

// take lists one name, or the common prefix that it stands for, if it is live.
func (s *scan) take(name string, rows []*scanRow, answers int, epoch uint64) (live bool, err error) {
	space, key, sub, err := parseGroup(name)
	if err != nil {
		return false, err
	}
	record, live, settled := settledRow(rows, answers, epoch)
	if !settled {
		res, err := s.r.run(s.ctx, s.q.Bucket, name, register.Request{Op: register.OpRead})
		if err != nil {
			return false, err
		}
		record = res.Value.Entry("")
		live = isLive(res.Value)
		record.Body = nil
	}
	s.lower = name + "\x00"
	if !live {
		return false, nil
	}
	entry := past.ScanEntry{Key: key, Sub: sub, Record: record}
	if rest := key[len(s.q.Prefix):]; s.q.Delimiter != "" {
		if i := strings.Index(rest, s.q.Delimiter); i >= 0 {
			entry = past.ScanEntry{CommonPrefix: key[:len(s.q.Prefix)+i+len(s.q.Delimiter)]}
			s.lower = string(after([]byte(keyPrefix(space, entry.CommonPrefix))))
		}
	}
	s.out.Entries = append(s.out.Entries, entry)
	return true, nil
}

// settledRow decides from the rows that all members of a majority show for one name.
func settledRow(rows []*scanRow, answers int, epoch uint64) (record past.Record, live, settled bool) {
	first := rows[0]
	chosen := first.Accepted.Epoch == epoch
	var with *scanRow
	for _, row := range rows {
		if row.Accepted != first.Accepted {
			return past.Record{}, false, false
		}
		chosen = chosen || row.Chosen
		if len(row.Value.Entries) > 0 {
			with = row
		}
	}
	if len(rows) < answers || !chosen || with == nil {
		return past.Record{}, false, false
	}
	return with.Value.Entry(""), first.Live, true
}

// scanHedgeAfter is how long a scan waits for the members it asked before it asks one more, and one more again. A page takes longer than a
// read, and costs more to be asked for twice.
const scanHedgeAfter = 250 * time.Millisecond

// scanMajority asks members for the same rows until a majority of one epoch has answered: the nearest with values.
func (r *Registers) scanMajority(ctx context.Context, rt *route, q scanRequest) ([]scanAnswer, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, operationMax)
	defer cancel()
	for attempt := 0; ; attempt++ {
		_, c := rt.current()
		q.scope = scope{c.Partition, c.Epoch}
		answers, err := r.scanOnce(ctx, rt, c, q)
		if err == nil {
			return answers, c.Epoch, nil
		}
		if errors.Is(err, past.ErrDamaged) {
			return nil, 0, fmt.Errorf("past: scan: %w", err)
		}
		if e := r.pause(ctx, attempt); e != nil {
			return nil, 0, fmt.Errorf("past: scan: %w: %w", e, err)
		}
	}
}

func (r *Registers) scanOnce(ctx context.Context, rt *route, c *register.Configuration, q scanRequest) ([]scanAnswer, error) {
	type reply struct {
		a   scanAnswer
		err error
	}
	order := r.nearest(c)
	replies := make(chan reply, len(order))
	ask := func(place int, values bool) {
		q := q
		q.WithValues = values
		node := c.Members[place].Node
		call, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		var a scanAnswer
		_, err := r.cfg.Peers.Do(call, node, rpc.Call{Kind: wire.KindScan, Body: q}, &a)
		if err == nil && a.Status != register.StatusReady {
			r.catchUp(ctx, rt, node, &a.standing)
			err = fmt.Errorf("past/pkb: member %v not ready: %w", node, past.ErrUnavailable)
		}
		if err == nil {
			err = r.checkRows(rt, node, &q, &a)
		}
		replies <- reply{a, err}
	}
	for i, place := range order[:c.Quorum()] {
		go ask(place, i == 0)
	}
	asked, rest := c.Quorum(), order[c.Quorum():]
	another := func() {
		if len(rest) > 0 {
			asked++
			go ask(rest[0], true) // it may have to replace the one with the values
			rest = rest[1:]
		}
	}
	hedge := time.NewTicker(scanHedgeAfter)
	defer hedge.Stop()
	var got []scanAnswer
	var failed error // of the member that failed last, but for damage
	damaged := 0
	for {
		var rep reply
		select {
		case rep = <-replies:
		case <-hedge.C:
			another()
			continue
		}
		asked--
		switch {
		case rep.err == nil:
			got = append(got, rep.a)
		case errors.Is(rep.err, past.ErrDamaged):
			damaged++
			another()
		default:
			failed = rep.err
			another()
		}
		switch {
		case len(got) >= c.Quorum():
			return got, nil
		case damaged > len(order)-c.Quorum():
			return nil, fmt.Errorf("past/pkb: %d of %d members: %w", damaged, len(order), past.ErrDamaged)
		case asked == 0:
			return nil, failed
		}
	}
}

// checkRows checks the order and the proofs of a member's rows.
func (r *Registers) checkRows(rt *route, node pastry.NodeID, q *scanRequest, a *scanAnswer) error {
	if a.More && len(a.Rows) == 0 || len(a.Rows) > q.Max {
		return fmt.Errorf("past/pkb: scan of %d rows: %w", len(a.Rows), past.ErrUnavailable)
	}
	for i := range a.Rows {
		row := &a.Rows[i]
		if i > 0 && row.Group <= a.Rows[i-1].Group {
			return fmt.Errorf("past/pkb: scan out of order: %w", past.ErrUnavailable)
		}
		if q.WithValues {
			if err := r.checkValue(rt, node, row.Group, row.Accepted, row.Value, row.Proof); err != nil {
				return err
			}
		}
	}
	return nil
}

// pause waits between attempts; it returns an error when ctx ends.
func (r *Registers) pause(ctx context.Context, attempt int) error {
	select {
	case <-afterAttempt(attempt):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", past.ErrUnavailable, ctx.Err())
	}
}
