package diskstore

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"go.uber.org/zap"

	"larder/blockstore"
)

// Memory that the two databases take, in bytes; the whole process is to stay below 200 MB.
const (
	blockCacheBytes    = 16 << 20 // shared
	entriesMemBytes    = 8 << 20  // one memtable; at most memtablesMax of them
	indexMemBytes      = 4 << 20
	memtablesMax       = 3
	pebbleOpenFilesMax = 256
)

// openPebble opens the database in dir, which it creates if need be. Damage found on the way is an error wrapping
// blockstore.ErrCorrupt. onStuck is called, from any goroutine and under Pebble's locks, when a table cannot be compacted
// because it is damaged: writes would stall before long.
func openPebble(fsys *breakerFS, dir string, cache *pebble.Cache, memBytes uint64, log *zap.Logger, onStuck func(error)) (db *pebble.DB, err error) {
	existed := true
	if _, err := fsys.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		existed = false
	}
	if fsys.edits, err = openEdits(fsys.FS, dir); err != nil {
		return nil, err
	}
	opts := &pebble.Options{
		FS:                          fsys,
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatNewest, // at least FormatWALSyncChunks (design.md §6)
		MemTableSize:                memBytes,
		MemTableStopWritesThreshold: memtablesMax,
		MaxOpenFiles:                pebbleOpenFilesMax,
		WALBytesPerSync:             1 << 20,
		Logger:                      pebbleLogger{log},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				log.Warn("background work of the database failed", zap.String("error", err.Error())) // without the stack that Pebble's errors have
				if err := pebbleError(err); errors.Is(err, blockstore.ErrCorrupt) {
					onStuck(err)
				}
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				log.Error("database file is damaged", zap.String("path", i.Path), zap.String("error", i.Details.Error()))
			},
		},
	}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	defer func() {
		// Replay panics on some kinds of damage; the database is then of no further use to anybody.
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("%w: %v", blockstore.ErrCorrupt, p)
		}
	}()
	db, err = pebble.Open(dir, opts)
	if err != nil {
		return nil, pebbleOpenError(err, existed)
	}
	return db, nil
}

// pebbleOpenError sorts the errors of pebble.Open. What is no refusal of the system's and no newer format is damage, if the
// database was there before: Pebble reports a lost table or manifest as plain text.
func pebbleOpenError(err error, existed bool) error {
	if strings.Contains(err.Error(), "format major version") {
		return fmt.Errorf("%w: %w", blockstore.ErrFormat, err)
	}
	for _, e := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES, syscall.EPERM, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return err
		}
	}
	if existed {
		return fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err)
	}
	return err
}

// pebbleError turns an error of a running database into one of the contract's.
func pebbleError(err error) error {
	if err != nil && pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err)
	}
	return err
}

// pebbleLogger passes Pebble's chatter on at debug level.
type pebbleLogger struct{ log *zap.Logger }

func (l pebbleLogger) Infof(f string, a ...any) {
	if l.log.Core().Enabled(zap.DebugLevel) {
		l.log.Debug("database event", zap.String("event", fmt.Sprintf(f, a...)))
	}
}

func (l pebbleLogger) Errorf(f string, a ...any) {
	l.log.Warn("database error", zap.String("event", fmt.Sprintf(f, a...)))
}

// Fatalf is called for broken invariants alone, since breaker keeps failed writes away from Pebble. It must not return.
func (l pebbleLogger) Fatalf(f string, a ...any) {
	l.log.Panic("database invariant broken", zap.String("event", fmt.Sprintf(f, a...)))
}
