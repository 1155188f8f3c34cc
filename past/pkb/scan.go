package pkb

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"larder/blockstore"
	"larder/past"
	"larder/past/register"
	"larder/past/rpc"
	"larder/past/wire"
	overlaywire "larder/pastry/wire"
)

const (
	scanRowsMax  = 2000
	scanBytesMax = 2 << 20 // of rows in one answer
)

// handleScan walks the group rows of one epoch in order. Its cost is what it returns and the undropped tombstones between.
func (m *Members) handleScan(ctx context.Context, _ overlaywire.Peer, req rpc.Request) (any, []byte, error) {
	var q scanRequest
	if err := req.Decode(&q); err != nil {
		return nil, nil, err
	}
	if q.Max < 1 || q.Max > scanRowsMax || q.Lower == "" || q.Upper <= q.Lower {
		return nil, nil, fmt.Errorf("%w: scan of %d rows", wire.ErrFrame, q.Max)
	}
	var a scanAnswer
	p := m.partition(q.Partition)
	p.mu.RLock()
	defer p.mu.RUnlock()
	a.standing = m.check(p, q.scope)
	if a.Status == register.StatusClosed && q.Closing {
		a.Status = register.StatusReady
	}
	if a.Status != register.StatusReady {
		return &a, nil, nil
	}
	cursor, err := m.store.Iterate(ctx, rowKey(tagGroup, p.id, q.Epoch, q.Lower), rowKey(tagGroup, p.id, q.Epoch, q.Upper))
	if err != nil {
		return nil, nil, m.damaged(p, "", err)
	}
	err = walk(cursor, p, &q, &a)
	if e := cursor.Close(); err == nil && e != nil {
		err = e
	}
	if err != nil {
		return nil, nil, m.damaged(p, "", err)
	}
	// The cursor may show writes whose sync is under way. Nobody may count them as votes before they are durable.
	return &a, nil, m.store.Apply(ctx, &blockstore.Batch{}, true)
}

func walk(cursor blockstore.Cursor, p *partition, q *scanRequest, a *scanAnswer) error {
	size := 0
	for ok := cursor.Seek(rowKey(tagGroup, p.id, q.Epoch, q.Lower)); ok; {
		if len(a.Rows) >= q.Max || size >= scanBytesMax {
			a.More = true
			return nil
		}
		g, err := decodeGroup(bytes.Clone(cursor.Value()))
		if err != nil {
			return fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err)
		}
		row := scanRow{Group: string(cursor.Key()[rowPrefixLen:]), Accepted: g.Accepted, Chosen: g.Chosen, Live: isLive(g.Value)}
		if g.Accepted.IsZero() || g.Droppable() {
			ok = cursor.Next()
			continue
		}
		if q.WithValues {
			row.Value, row.Proof = g.Value, g.Proof
		}
		next, err := fold(&row, q)
		if err != nil {
			return fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err)
		}
		a.Rows = append(a.Rows, row)
		size += len(cursor.Value()) + len(row.Group)
		if row.Prefix == "" {
			ok = cursor.Next()
		} else if target := rowKey(tagGroup, p.id, q.Epoch, next); bytes.Compare(target, cursor.Key()) > 0 {
			ok = cursor.Seek(target)
		} else {
			ok = false
		}
	}
	return nil
}

// fold sets row.Prefix if the row is live and its object key has the delimiter behind the part to skip, and returns the group name that comes
// after everything with that common prefix.
func fold(row *scanRow, q *scanRequest) (next string, err error) {
	if q.Fold == "" || !row.Live { // a deletion that is not known chosen may not stand for what lies behind it
		return "", nil
	}
	space, key, _, err := parseGroup(row.Group)
	if err != nil {
		return "", err
	}
	if len(key) < q.Skip {
		return "", nil
	}
	i := strings.Index(key[q.Skip:], q.Fold)
	if i < 0 {
		return "", nil
	}
	row.Prefix = key[:q.Skip+i+len(q.Fold)]
	return string(after([]byte(keyPrefix(space, row.Prefix)))), nil
}

func isLive(v register.Value) bool {
	for _, e := range v.Entries {
		if e.Record.Kind == past.Live {
			return true
		}
	}
	return false
}
