package diskstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"larder/blockstore"
)

func benchStore(b *testing.B) *Store {
	s, err := Open(Options{Dir: filepath.Join(b.TempDir(), "store")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	})
	return s
}

// parallel runs f for i = 0 to b.N - 1 with workers in flight.
func parallel(b *testing.B, workers int, bytes int64, f func(i int64) error) {
	b.SetBytes(bytes)
	var next atomic.Int64
	b.ResetTimer()
	done := make(chan error, workers)
	for range workers {
		go func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					done <- nil
					return
				}
				if err := f(i); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func benchPut(b *testing.B, size int) {
	body := make([]byte, size)
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprintf("store-%d", workers), func(b *testing.B) {
			s := benchStore(b)
			parallel(b, workers, int64(size), func(i int64) error {
				return s.Put(context.Background(), fmt.Appendf(nil, "key-%028d", i), body)
			})
		})
		b.Run(fmt.Sprintf("files-%d", workers), func(b *testing.B) {
			dir := b.TempDir()
			parallel(b, workers, int64(size), func(i int64) error { return putFile(dir, fmt.Sprintf("key-%028d", i), body) })
		})
	}
}

// putFile is what a fragment costs without segments: a file, synced under another name, and its directory.
func putFile(dir, name string, body []byte) error {
	f, err := os.Create(filepath.Join(dir, name+".new"))
	if err != nil {
		return err
	}
	if _, err := f.Write(body); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func BenchmarkPut4KiB(b *testing.B) { benchPut(b, 4<<10) }
func BenchmarkPut4MiB(b *testing.B) { benchPut(b, 4<<20) }

func BenchmarkApply512B(b *testing.B) {
	s := benchStore(b)
	value := make([]byte, 512)
	parallel(b, 16, 512, func(i int64) error {
		var batch blockstore.Batch
		batch.Set(fmt.Appendf(nil, "key-%028d", i), value)
		return s.Apply(context.Background(), &batch, true)
	})
}

// BenchmarkReadAt reads 64 KiB, a segment of a stripe's encryption, out of 512 KiB fragments in the page cache.
func BenchmarkReadAt(b *testing.B) {
	s := benchStore(b)
	const n = 64
	for i := range n {
		if err := s.Put(context.Background(), fmt.Appendf(nil, "key-%028d", i), make([]byte, 512<<10)); err != nil {
			b.Fatal(err)
		}
	}
	parallel(b, 16, 64<<10, func(i int64) error {
		dst := make([]byte, 64<<10)
		_, err := s.ReadAt(context.Background(), fmt.Appendf(nil, "key-%028d", i%n), dst, i%8*(64<<10))
		return err
	})
}
