package diskstore

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"larder/blockstore"
	"larder/blockstore/blockstoretest"
)

// device is a file system in memory that loses power, fails and rots.
type device struct {
	mem  *vfs.MemFS
	fail *atomic.Pointer[error]
}

func newDevice(testing.TB) blockstoretest.Device {
	return device{vfs.NewCrashableMem(), new(atomic.Pointer[error])}
}

// fs is mem with the faults that FailWrites asks for.
func (d device) fs() vfs.FS {
	return errorfs.Wrap(d.mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if p := d.fail.Load(); p != nil && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return *p
		}
		return nil
	}))
}

func (d device) options(o blockstoretest.Options) Options {
	return Options{Dir: "store", FS: d.fs(), CapacityBytes: o.CapacityBytes, SegmentBytes: 300_000, Now: o.Now}
}

func (d device) Open(o blockstoretest.Options) (blockstore.Store, error) {
	s, err := Open(d.options(o))
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d device) Copy() blockstoretest.Device {
	all := vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(0, 0))}
	return device{d.mem.CrashClone(all), new(atomic.Pointer[error])}
}

func (d device) Cut(rng *rand.Rand) blockstoretest.Device {
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 20, 60, 95}[rng.IntN(4)], RNG: rng}
	return device{d.mem.CrashClone(cfg), new(atomic.Pointer[error])}
}

func (d device) FailWrites(err error) {
	if err == nil {
		d.fail.Store(nil)
		return
	}
	d.fail.Store(&err)
}

// files lists all files below dir that hold anything.
func files(t testing.TB, fs vfs.FS, dir string) (out []string) {
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, n := range names {
		path := fs.PathJoin(dir, n)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			out = append(out, files(t, fs, path)...)
		} else if info.Size() > 0 {
			out = append(out, path)
		}
	}
	return out
}

func (d device) Flip(rng *rand.Rand) string {
	all := files(nil, d.mem, "store")
	path := all[rng.IntN(len(all))]
	info, err := d.mem.Stat(path)
	if err != nil {
		panic(err)
	}
	off, bit := rng.Int64N(info.Size()), rng.IntN(8)
	flip(d.mem, path, off, 1<<bit)
	return fmt.Sprintf("%s byte %d of %d, bit %d", path, off, info.Size(), bit)
}

// flip changes the byte at off.
func flip(fs vfs.FS, path string, off int64, mask byte) {
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil && err != io.EOF {
		panic(err)
	}
	b[0] ^= mask
	if _, err := f.WriteAt(b[:], off); err != nil {
		panic(err)
	}
	if err := f.Sync(); err != nil {
		panic(err)
	}
}

func TestContract(t *testing.T) { blockstoretest.Run(t, newDevice) }
