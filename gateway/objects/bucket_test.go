package objects

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

func TestOfConcurrentCreationsOneMakesTheBucket(t *testing.T) {
	b := newBench(t, pasttest.Options{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		s := b.store()
		wg.Go(func() {
			out, err := s.CreateBucket(ctx, gateway.Bucket{Name: "bucket", Owner: "owner"})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, gateway.ErrBucketExists) || out.Owner != "owner" {
				t.Errorf("create: %+v, %v", out, err)
			}
		})
	}
	wg.Wait()
	if made != 1 {
		t.Errorf("%d of 8 made the bucket", made)
	}
}

func TestADeletedBucketIsNotItsSuccessor(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	other := b.store()
	put(t, other, "key", data(1, 100_000)) // other remembers the first bucket
	old := must(s.bucket(ctx, "bucket"))
	b.must(nil, s.Delete(ctx, "bucket", "key", nil))
	id := createUpload(t, s, "upload")
	_, err := s.PutPart(ctx, "bucket", "upload", id, 1, input(data(2, 100_000)))
	b.must(nil, err)
	b.must(nil, s.DeleteBucket(ctx, "bucket")) // with an upload in progress
	b.wantNoWaste(s)
	if _, err := other.Put(ctx, "bucket", "key", input(data(3, 100_000))); !errors.Is(err, gateway.ErrNoSuchBucket) {
		t.Errorf("put in a deleted bucket: %v", err)
	}
	if _, err := other.List(ctx, "bucket", gateway.ListQuery{Max: 1}); !errors.Is(err, gateway.ErrNoSuchBucket) {
		t.Errorf("list a deleted bucket: %v", err)
	}
	b.wantNoWaste(s, other)
	third, fourth := b.store(), b.store()
	fourth.buckets = cache[*bucket]{keep: time.Hour}
	fourth.buckets.put("bucket", old) // it has slept through all of this
	b.must(third.CreateBucket(ctx, gateway.Bucket{Name: "bucket"}))
	put(t, third, "key", []byte("new"))
	if _, err := fourth.Put(ctx, "bucket", "key", input(data(4, 100_000))); !errors.Is(err, gateway.ErrNoSuchBucket) {
		t.Errorf("put with claims of a deleted bucket: %v", err)
	}
	b.wantNoWaste(fourth)
	wantObject(t, fourth, "key", []byte("new"))
	wantObject(t, s, "key", []byte("new"))
	for r := range b.past.Registers() {
		if r.Bucket == past.SystemBucket && r.Key != "bucket/bucket" {
			t.Errorf("system record %q is left", r.Key)
		}
	}
}

// TestPutsThatCrossADeleteBucket lets another gateway, which remembers the bucket, put an object at each call of a DeleteBucket.
// A put that was acknowledged is there, or the bucket was not deleted before it.
func TestPutsThatCrossADeleteBucket(t *testing.T) {
	for at := 1; ; at++ {
		b, s := one(t, pasttest.Options{})
		other := b.store()
		put(t, other, "before", nil)
		b.must(nil, other.Delete(ctx, "bucket", "before", nil))
		var putErr error
		reached := b.at(at, func() { _, putErr = other.Put(ctx, "bucket", "key", input([]byte("body"))) })
		err := s.DeleteBucket(ctx, "bucket")
		b.past.SetHook(nil)
		if !*reached {
			break
		}
		switch {
		case putErr == nil && errors.Is(err, gateway.ErrBucketNotEmpty):
			wantObject(t, s, "key", []byte("body"))
			wantObject(t, other, "key", []byte("body"))
			put(t, other, "key", []byte("again"))
		case err == nil && (errors.Is(putErr, gateway.ErrNoSuchBucket) || errors.Is(putErr, gateway.ErrUnavailable)):
		default:
			t.Fatalf("at call %d: put %v, delete %v", at, putErr, err)
		}
	}
}

// TestAGatewayDiesInDeleteBucket kills the gateway at each call of a DeleteBucket. Others end what it began once it can do no
// more, and lose nothing.
func TestAGatewayDiesInDeleteBucket(t *testing.T) {
	for _, empty := range []bool{true, false} {
		for at, died := 1, true; died; at++ {
			died = false
			for _, after := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					b, s := one(t, pasttest.Options{})
					dying, m := b.mortal(at, after)
					there := false
					if !empty { // an object that comes after the first look
						b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
							if c.Op == pasttest.OpClose && !c.Done {
								put(t, s, "key", []byte("body"))
								there = true
							}
							return nil
						})
					}
					dying.DeleteBucket(ctx, "bucket")
					b.past.SetHook(nil)
					died = died || m.dead
					s = b.store()           // remembers nothing
					s.Bucket(ctx, "bucket") // may meet the attempt
					time.Sleep(deletionGrace + time.Second)
					_, err := s.Bucket(ctx, "bucket")
					if err != nil && !errors.Is(err, gateway.ErrNoSuchBucket) {
						t.Fatalf("died at call %d, after its effect %v: %v", at, after, err)
					}
					if err == nil && there {
						wantObject(t, s, "key", []byte("body"))
						b.must(nil, s.Delete(ctx, "bucket", "key", nil))
					}
					if err == nil {
						b.must(nil, s.DeleteBucket(ctx, "bucket"))
					} else if there {
						t.Fatalf("died at call %d: a bucket with an object is gone", at)
					}
					b.must(nil, s.SweepSystem(ctx))
					if left := b.past.Registers(); len(left) != 0 {
						t.Errorf("died at call %d, after its effect %v: registers are left: %v", at, after, left)
					}
					if n := b.past.Partitions(); n != 0 {
						t.Errorf("died at call %d, after its effect %v: %d partitions are kept", at, after, n)
					}
					b.must(s.CreateBucket(ctx, gateway.Bucket{Name: "bucket"}))
				})
			}
		}
	}
}

func TestAnAttemptAtWorkIsLeftAlone(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	other := b.store()
	asked := false
	b.past.SetHook(func(_ context.Context, c pasttest.Call) error {
		if c.Op == pasttest.OpClose && c.Done {
			asked = true
			if _, err := other.Bucket(ctx, "bucket"); !errors.Is(err, gateway.ErrUnavailable) {
				t.Errorf("a bucket being deleted: %v", err)
			}
			if err := other.DeleteBucket(ctx, "bucket"); !errors.Is(err, gateway.ErrUnavailable) {
				t.Errorf("deleting it too: %v", err)
			}
			if _, err := other.CreateBucket(ctx, gateway.Bucket{Name: "bucket"}); !errors.Is(err, gateway.ErrUnavailable) {
				t.Errorf("making it anew: %v", err)
			}
		}
		return nil
	})
	b.must(nil, s.DeleteBucket(ctx, "bucket"))
	if !asked {
		t.Error("the bucket was never closed")
	}
}

func TestBuckets(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b.must(s.CreateBucket(ctx, gateway.Bucket{Name: "another", Region: "eu", Owner: "o", Created: created}))
	list, err := s.Buckets(ctx)
	if err != nil || len(list) != 2 || list[0] != (gateway.Bucket{Name: "another", Region: "eu", Owner: "o", Created: created}) || list[1].Name != "bucket" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := s.Bucket(ctx, "none"); !errors.Is(err, gateway.ErrNoSuchBucket) {
		t.Errorf("no such bucket: %v", err)
	}
}
