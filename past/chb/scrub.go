package chb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"larder/blockstore"
	"larder/past"

	"go.uber.org/zap"
)

// ScrubReport says what a scrub found.
type ScrubReport struct {
	Fragments int   // live fragments read
	Bytes     int64 // of them
	Corrupt   int   // fragments whose checksum or hash is wrong
	Mended    int   // of those, such as could be replaced at once
}

// Scrub reads every live fragment of this node and checks its hash. Corrupt ones are replaced from other nodes; what cannot be replaced now
// is tried again by repair. Errors: ctx.Err(), past.ErrUnavailable if the store is closed.
func (b *Blocks) Scrub(ctx context.Context) (ScrubReport, error) {
	if b.shelf == nil {
		return ScrubReport{}, nil
	}
	return b.scrub(ctx, 0)
}

func (b *Blocks) scrub(ctx context.Context, bytesPerSecond int64) (report ScrubReport, err error) {
	var pace limiter
	var from []byte
	for {
		keys, next, err := b.shelf.liveKeys(ctx, from)
		if err != nil {
			return report, fmt.Errorf("chb: scrub: %w", err)
		}
		for _, k := range keys {
			if err := pace.wait(ctx, int(k.size), bytesPerSecond); err != nil {
				return report, fmt.Errorf("chb: scrub: %w", err)
			}
			buf := b.buffers.get(int(k.size))
			_, err := b.shelf.read(ctx, *buf, k.key)
			b.buffers.put(buf)
			switch {
			case errors.Is(err, past.ErrDamaged):
				report.Corrupt++
				b.mendSoon(k.key)
				if b.mend(ctx, k.key) == nil {
					report.Mended++
				}
			case err != nil && !errors.Is(err, past.ErrNotFound): // not found: emptied meanwhile
				return report, fmt.Errorf("chb: scrub: %w", err)
			}
			report.Fragments++
			report.Bytes += k.size
		}
		if next == nil {
			b.stats.scrubbed.Store(b.cfg.Now().UnixNano())
			return report, nil
		}
		from = next
	}
}

type sizedKey struct {
	key  storeKey
	size int64
}

// liveKeys returns some live fragments from a key on, and where the next ones begin; nil after the last.
func (s *shelf) liveKeys(ctx context.Context, from []byte) (keys []sizedKey, next []byte, err error) {
	const atOnce = 1024
	err = s.store.Each(ctx, from, func(f blockstore.FragmentInfo) bool {
		if len(keys) == atOnce {
			next = bytes.Clone(f.Key)
			return false
		}
		if key, ok := parseKey(f.Key); ok && f.Trashed.IsZero() {
			keys = append(keys, sizedKey{key, f.Size})
		}
		return true
	})
	return keys, next, fromStore(err)
}

// runScrub scrubs slowly, for ever.
func (b *Blocks) runScrub(ctx context.Context) {
	timer := time.NewTimer(b.cfg.ScrubEvery / 24) // not at once: a start has other things to do
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		report, err := b.scrub(ctx, b.cfg.ScrubBytesPerSecond)
		if err != nil && ctx.Err() == nil {
			b.log.Warn("scrub ended early", zap.Error(err))
		} else if err == nil {
			b.log.Info("scrub ended", zap.Int("fragments", report.Fragments), zap.Int64("bytes", report.Bytes), zap.Int("corrupt", report.Corrupt), zap.Int("mended", report.Mended))
		}
		timer.Reset(b.cfg.ScrubEvery)
	}
}

// runTrash empties the trash of what is old enough, and forgets old tombstones and pins.
func (b *Blocks) runTrash(ctx context.Context) {
	timer := time.NewTicker(min(time.Minute, b.cfg.TrashAge))
	defer timer.Stop()
	var freed int64 // by the last round: there may be more, since each does a bounded piece of work
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		b.shelf.dropPins()
		now := b.cfg.Now()
		if err := b.shelf.dropTombstones(ctx, now.Add(-tombstoneAge)); err != nil && ctx.Err() == nil {
			b.log.Warn("tombstones not dropped", zap.Error(err))
		}
		usage := b.shelf.store.Usage()
		if usage.TrashBytes == 0 && freed == 0 {
			continue
		}
		age := b.cfg.TrashAge
		if usage.CapacityBytes > 0 && usage.FreeBytes < usage.CapacityBytes/pressure {
			age = min(age, trashAgePressed)
		}
		var err error
		freed, err = b.shelf.store.Empty(ctx, now.Add(-age))
		if err != nil && ctx.Err() == nil {
			b.log.Warn("trash not emptied", zap.Error(err))
		} else if freed > 0 {
			b.log.Info("trash emptied", zap.Int64("freedBytes", freed))
		}
	}
}

// pressure is the part of the capacity below which free space counts as little.
const pressure = 10
