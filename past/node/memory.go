package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"larder/auth/realm"
	"larder/blockstore"
	"larder/past"
	"larder/past/register"
	pastwire "larder/past/wire"
)

// memory is what a disk knows of itself between starts. Keys in the store's entries, beside those of past/pkb:
//
//	'n'   memoryRow, CBOR
//	's'   system, CBOR
type memory struct {
	store       blockstore.Entries
	incarnation uint64 // random, drawn when the disk was empty
	boot        uint64 // how often the disk was started

	mu  sync.Mutex // guards sys
	sys *system
}

type memoryRow struct {
	Incarnation uint64 `cbor:"1,keyasint"`
	Boot        uint64 `cbor:"2,keyasint"`
}

// system is the system partition's lineage, and the realm's signature over its genesis.
type system struct {
	Lineage   register.Lineage `cbor:"1,keyasint"`
	Signature []byte           `cbor:"2,keyasint"`
}

var (
	keyMemory = []byte{'n'}
	keySystem = []byte{'s'}
)

const domainGenesis = "system partition genesis"

// recall reads what the disk remembers and counts this start, durably.
func recall(ctx context.Context, store blockstore.Entries) (*memory, error) {
	var row memoryRow
	if _, err := get(ctx, store, keyMemory, &row); err != nil {
		return nil, err
	}
	var sys system
	known, err := get(ctx, store, keySystem, &sys)
	if err != nil {
		return nil, err
	}
	if row.Incarnation == 0 {
		row.Incarnation = newIncarnation()
	}
	row.Boot++
	m := &memory{store: store, incarnation: row.Incarnation, boot: row.Boot}
	if known {
		m.sys = &sys
	}
	return m, m.set(ctx, keyMemory, &row)
}

func newIncarnation() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// get decodes the entry under key into v and reports whether there is one.
func get(ctx context.Context, store blockstore.Entries, key []byte, v any) (bool, error) {
	raw, err := store.Get(ctx, key)
	if errors.Is(err, blockstore.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		if err = pastwire.Unmarshal(raw, v); err != nil {
			err = fmt.Errorf("%w: %w", blockstore.ErrCorrupt, err)
		}
	}
	return err == nil, err
}

func (m *memory) set(ctx context.Context, key []byte, v any) error {
	var b blockstore.Batch
	b.Set(key, pastwire.Marshal(v))
	return m.store.Apply(ctx, &b, true)
}

// rebirth forgets all register state and draws a new incarnation, in one batch.
func (m *memory) rebirth(ctx context.Context) error {
	var b blockstore.Batch
	for _, tag := range []byte{'m', 'g', 'b'} {
		b.DeleteRange([]byte{tag}, []byte{tag + 1})
	}
	b.Set(keyMemory, pastwire.Marshal(&memoryRow{Incarnation: newIncarnation()}))
	return m.store.Apply(ctx, &b, true)
}

// system returns what is known of the system partition, nil if nothing.
func (m *memory) system() *system {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sys
}

func (m *memory) saveSystem(ctx context.Context, s system) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sys = &s
	return m.set(ctx, keySystem, &s)
}

// extendSystem keeps a longer lineage of the same genesis.
func (m *memory) extendSystem(ctx context.Context, l register.Lineage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sys == nil || l.Epoch() <= m.sys.Lineage.Epoch() {
		return nil
	}
	m.sys = &system{Lineage: l, Signature: m.sys.Signature}
	return m.set(ctx, keySystem, m.sys)
}

// foundSystem makes the first configuration of the system partition, signed by the realm's key.
func foundSystem(id *realm.Identity, founder register.MemberID) (*system, error) {
	if id.RootKey == nil || id.Secrets == nil {
		return nil, errors.New("node: only the founder of a realm can begin its system partition")
	}
	c := register.Configuration{Partition: register.System, Bucket: past.SystemBucket, Members: []register.MemberID{founder}}
	copy(c.RecordKey[:], keys{id.Secrets}.systemPublic())
	return &system{Lineage: register.Lineage{Genesis: c}, Signature: realm.Sign(id.RootKey, domainGenesis, pastwire.Marshal(&c))}, nil
}

// verify checks that s is the realm's system partition.
func (s *system) verify(r *realm.Realm, check register.Verifier) error {
	if s.Lineage.Genesis.Partition != register.System {
		return fmt.Errorf("node: genesis of partition %v is not the system partition's", s.Lineage.Genesis.Partition)
	}
	if err := realm.VerifySignature(r.Root.PublicKey.(ed25519.PublicKey), domainGenesis, pastwire.Marshal(&s.Lineage.Genesis), s.Signature); err != nil {
		return fmt.Errorf("node: system partition: %w", err)
	}
	return s.Lineage.Verify(check)
}
