package objects

import (
	"context"
	"fmt"

	"larder/gateway"
	"larder/past"
)

// Description is where the bytes of one object are, for operators.
type Description struct {
	Object gateway.Object
	Bucket past.BucketID
	Inline bool // the bytes are in the record
	Parts  []gateway.Part
	// Stripes are those of the bytes, in order, then those of manifests and of the part table. Truncated says that there are more.
	Stripes   []StripeDescription
	Truncated bool
}

// StripeDescription is one stripe of an object.
type StripeDescription struct {
	Kind   string // "data", "manifest" or "table"
	Part   int    // the part's number; 0 where the object was put whole
	Number uint64 // of the stripe in its body
	Ref    past.StripeRef
}

// Describe says where an object's bytes are, for the first stripesMax stripes. It reads the record, the part table and the manifests.
// Errors: those of Open.
func (s *Store) Describe(ctx context.Context, bucketName, objectKey string, stripesMax int) (*Description, error) {
	opened, err := s.Open(ctx, bucketName, objectKey)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	o := opened.(*object)
	d := &Description{Object: o.info, Bucket: o.bucket.id}
	if b := o.value.Body; b != nil {
		d.Inline = b.Inline
	} else {
		for i := range o.parts {
			d.Parts = append(d.Parts, o.parts[i].out())
		}
	}
	if !d.Inline {
		err = d.add(ctx, s, "data", o.parts, stripesMax)
	}
	for i := range o.parts {
		if err == nil {
			err = d.addManifest(&o.parts[i], stripesMax)
		}
	}
	if t := o.value.Table; err == nil && t != nil {
		table := part{Body: *t}
		if err = d.add(ctx, s, "table", []part{table}, stripesMax); err == nil {
			err = d.addManifest(&table, stripesMax)
		}
	}
	if err != nil {
		return nil, fail("describe", false, err)
	}
	return d, nil
}

// room reports whether another stripe fits, and notes it where none does.
func (d *Description) room(stripesMax int) bool {
	d.Truncated = d.Truncated || len(d.Stripes) >= stripesMax
	return !d.Truncated
}

// add lists the stripes of the bytes of some bodies.
func (d *Description) add(ctx context.Context, s *Store, kind string, parts []part, stripesMax int) error {
	var length int64
	for i := range parts {
		length += parts[i].Body.Length
	}
	for walk := s.pieces(parts, 0, length); walk.at < walk.end; {
		if !d.room(stripesMax) {
			return nil
		}
		p, ok, err := walk.next(ctx, past.StripeMax)
		if err != nil || !ok {
			return err
		}
		d.Stripes = append(d.Stripes, StripeDescription{kind, parts[walk.current].Number, p.index, p.ref})
	}
	return nil
}

// addManifest lists the stripes that list a body's stripes.
func (d *Description) addManifest(p *part, stripesMax int) error {
	if !p.Body.Manifest {
		return nil
	}
	for m := range int64(len(p.Body.Rows) / rowBytes) {
		if !d.room(stripesMax) {
			return nil
		}
		ref, err := row(p.Body.Rows[m*rowBytes:], p.Body.manifestLen(m))
		if err != nil {
			return fmt.Errorf("objects: manifest: %w", err)
		}
		d.Stripes = append(d.Stripes, StripeDescription{"manifest", p.Number, manifestBase + uint64(m), ref})
	}
	return nil
}

// BucketNames returns the names of all buckets, those being deleted included, by their ids.
func (s *Store) BucketNames(ctx context.Context) (map[past.BucketID]string, error) {
	names := map[past.BucketID]string{}
	err := s.system(ctx, bucketPrefix, func(name string, rec *past.Record) error {
		b, err := s.decodeBucket(name, rec)
		if err == nil && b != nil {
			names[b.id] = name
		}
		return err
	})
	return names, err
}
