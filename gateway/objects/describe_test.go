package objects

import (
	"errors"
	"testing"

	"larder/gateway"
	"larder/gateway/objects/pasttest"
	"larder/past"
)

func TestDescribeListsEveryStripe(t *testing.T) {
	b, s := one(t, pasttest.Options{})
	s.rowsMax = 1
	put(t, s, "long", data(3, 2*past.StripeMax+12345))
	d, err := s.Describe(ctx, "bucket", "long", 10)
	if err != nil {
		t.Fatal(err)
	}
	live := b.past.LiveStripes()
	var kinds string
	var bytes int
	for _, st := range d.Stripes {
		if _, ok := live[st.Ref.ID]; !ok {
			t.Errorf("stripe %v is not live", st.Ref.ID)
		}
		delete(live, st.Ref.ID)
		if kinds += st.Kind + " "; st.Kind == "data" {
			bytes += st.Ref.Length
		}
	}
	if kinds != "data data data manifest " || bytes != 2*past.StripeMax+12345 || len(live) != 0 || d.Truncated || d.Inline || d.Object.Size != int64(bytes) {
		t.Errorf("stripes %sof %d bytes, %d not listed, %+v", kinds, bytes, len(live), d)
	}
	if d, err = s.Describe(ctx, "bucket", "long", 2); err != nil || len(d.Stripes) != 2 || !d.Truncated {
		t.Errorf("the first two: %+v, %v", d, err)
	}
}

func TestDescribeSaysWhatIsInlineAndWhatIsNot(t *testing.T) {
	_, s := one(t, pasttest.Options{})
	put(t, s, "short", []byte("bytes"))
	if d, err := s.Describe(ctx, "bucket", "short", 10); err != nil || !d.Inline || len(d.Stripes) != 0 || d.Object.Size != 5 {
		t.Errorf("inline: %+v, %v", d, err)
	}
	if _, err := s.Describe(ctx, "bucket", "none", 10); !errors.Is(err, gateway.ErrNoSuchKey) {
		t.Errorf("no object: %v", err)
	}
	if _, err := s.Describe(ctx, "nothing", "none", 10); !errors.Is(err, gateway.ErrNoSuchBucket) {
		t.Errorf("no bucket: %v", err)
	}
}

func TestDescribeOfAMultipartObjectNamesItsParts(t *testing.T) {
	b, s := tabled(t)
	first := data(1, 5<<20)
	id := uploaded(t, s, "parts", first, data(2, 5<<20))
	b.must(s.Complete(ctx, "bucket", "parts", id, named(first, data(2, 5<<20))))
	d, err := s.Describe(ctx, "bucket", "parts", 10)
	if err != nil {
		t.Fatal(err)
	}
	var of []int
	for _, st := range d.Stripes {
		of = append(of, st.Part)
	}
	if len(d.Parts) != 2 || len(of) != 5 || of[0] != 1 || of[1] != 1 || of[2] != 2 || of[3] != 2 || d.Stripes[4].Kind != "table" {
		t.Errorf("parts %+v, stripes %+v", d.Parts, d.Stripes)
	}
}

func TestBucketNames(t *testing.T) {
	_, s := one(t, pasttest.Options{})
	names, err := s.BucketNames(ctx)
	bk, bucketErr := s.bucket(ctx, "bucket")
	if err != nil || bucketErr != nil || len(names) != 1 || names[bk.id] != "bucket" {
		t.Errorf("%v, %v, %v", names, err, bucketErr)
	}
}
