package memstore

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"larder/blockstore"
	"larder/blockstore/blockstoretest"
)

// device is a Disk as blockstoretest sees it.
type device struct{ d *Disk }

func (d device) Open(o blockstoretest.Options) (blockstore.Store, error) {
	return New(Options{Disk: d.d, CapacityBytes: o.CapacityBytes, Now: o.Now}), nil
}

func (d device) Copy() blockstoretest.Device { return device{d.d.Copy()} }

func (d device) Cut(*rand.Rand) blockstoretest.Device {
	c := d.d.Copy()
	d.d.mu.Lock()
	c.synced = d.d.synced
	d.d.mu.Unlock()
	c.Cut()
	return device{c}
}

func (d device) FailWrites(err error) { d.d.FailWrites(err) }

func (d device) Flip(rng *rand.Rand) string {
	i, bit := rng.IntN(1<<20), rng.IntN(1<<20)
	return fmt.Sprintf("value %d, bit %d: %v", i, bit, d.d.Flip(i, bit))
}

func TestContract(t *testing.T) {
	blockstoretest.Run(t, func(testing.TB) blockstoretest.Device { return device{new(Disk)} })
}
