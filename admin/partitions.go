package admin

import (
	"encoding/hex"
	"fmt"
	"net/http"

	"larder/gateway/objects"
	"larder/past"
	"larder/past/pkb"
	"larder/past/register"
	"larder/pastry"

	"go.uber.org/zap"
)

// Partition is one partition's newest configuration, and how far its members are.
type Partition struct {
	Partition string   `json:"partition"`
	BucketID  string   `json:"bucketId"`
	Bucket    string   `json:"bucket"` // its name; "" where it is not known, or for the system partition
	System    bool     `json:"system"`
	Epoch     uint64   `json:"epoch"`
	K         int      `json:"k"`
	Lower     string   `json:"lower"` // object keys in [lower, upper); empty: no bound
	Upper     string   `json:"upper"`
	Closed    bool     `json:"closed"` // its bucket is being deleted
	Members   []Member `json:"members"`
}

// Member is one member of a partition.
type Member struct {
	Node        pastry.NodeID `json:"node"`
	Incarnation string        `json:"incarnation"`
	Active      bool          `json:"active"`
}

func (s *server) partitions(r *http.Request) (any, error) {
	if err := query(r); err != nil {
		return nil, err
	}
	registers := s.Node.Registers()
	if registers == nil {
		return nil, refuse(http.StatusServiceUnavailable, "the system partition is not known yet")
	}
	states, err := registers.Survey(r.Context())
	if err == nil {
		err = r.Context().Err() // members that were not asked are not known to be inactive
	}
	if err != nil {
		return nil, fmt.Errorf("survey: %w", err)
	}
	var names map[past.BucketID]string
	if store := s.Objects(); store != nil {
		if names, err = store.BucketNames(r.Context()); err != nil { // the table is of use without them
			s.log.Debug("names of buckets not read", zap.Error(err))
		}
	}
	out := []Partition{}
	for i := range states {
		out = append(out, describePartition(&states[i], names))
	}
	return out, nil
}

func describePartition(state *pkb.PartitionState, names map[past.BucketID]string) Partition {
	c := state.Lineage.Current()
	p := Partition{
		Partition: c.Partition.String(), BucketID: c.Bucket.String(), Bucket: names[c.Bucket], System: c.Partition == register.System, Epoch: c.Epoch,
		K: len(c.Members), Lower: c.Lower, Upper: c.Upper, Closed: c.Closed, Members: []Member{},
	}
	for i, m := range c.Members {
		p.Members = append(p.Members, Member{m.Node, fmt.Sprintf("%016x", m.Incarnation), state.Active[i]})
	}
	return p
}

// Object is where one object's bytes are.
type Object struct {
	Bucket    string         `json:"bucket"`
	BucketID  string         `json:"bucketId"`
	Key       string         `json:"key"`
	Size      int64          `json:"size"` // bytes
	ETag      string         `json:"etag"`
	Modified  string         `json:"modified"` // RFC 3339
	Owner     string         `json:"owner"`
	Inline    bool           `json:"inline"` // the bytes are in the record
	Parts     []ObjectPart   `json:"parts"`  // of a multipart object
	Stripes   []ObjectStripe `json:"stripes"`
	Truncated bool           `json:"truncated"` // there are more stripes
}

// ObjectPart is one part of a multipart object.
type ObjectPart struct {
	Number int    `json:"number"`
	Size   int64  `json:"size"`
	ETag   string `json:"etag"`
}

// ObjectStripe is one stripe and who has fragments of it. Missing are the indexes that no node that answered has.
type ObjectStripe struct {
	Kind    string   `json:"kind"` // "data", "manifest" or "table"
	Part    int      `json:"part"`
	Number  uint64   `json:"number"`
	Block   string   `json:"block"`
	Length  int      `json:"length"`
	Data    int      `json:"d"`
	Parity  int      `json:"p"`
	Holders []Holder `json:"holders"`
	Silent  []string `json:"silent"` // candidates that did not answer
	Missing []int    `json:"missing"`
}

// Holder is a node with fragments of a stripe, by their indexes.
type Holder struct {
	Node    pastry.NodeID `json:"node"`
	Live    []int         `json:"live"`
	Trashed []int         `json:"trashed"`
}

// stripesShown is how many of an object's stripes are looked up, each at all its candidates.
const stripesShown = 64

func (s *server) object(r *http.Request) (any, error) {
	if err := query(r, "bucket", "key"); err != nil {
		return nil, err
	}
	bucket, key := r.URL.Query().Get("bucket"), r.URL.Query().Get("key")
	if bucket == "" || key == "" {
		return nil, refuse(http.StatusBadRequest, "bucket and key are required")
	}
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	d, err := store.Describe(r.Context(), bucket, key, stripesShown)
	if err != nil {
		return nil, err
	}
	o := &Object{
		Bucket: bucket, BucketID: d.Bucket.String(), Key: key, Size: d.Object.Size, ETag: d.Object.ETag, Modified: d.Object.Modified.Format(timeFormat),
		Owner: d.Object.Owner, Inline: d.Inline, Parts: []ObjectPart{}, Stripes: []ObjectStripe{}, Truncated: d.Truncated,
	}
	for _, p := range d.Parts {
		o.Parts = append(o.Parts, ObjectPart{p.Number, p.Size, p.ETag})
	}
	for i := range d.Stripes {
		stripe, err := s.stripe(r, &d.Stripes[i])
		if err != nil {
			return nil, err
		}
		o.Stripes = append(o.Stripes, stripe)
	}
	return o, nil
}

const timeFormat = "2006-01-02T15:04:05Z07:00"

func (s *server) stripe(r *http.Request, d *objects.StripeDescription) (ObjectStripe, error) {
	ref := d.Ref
	out := ObjectStripe{
		Kind: d.Kind, Part: d.Part, Number: d.Number, Block: hex.EncodeToString(ref.ID[:]), Length: ref.Length,
		Data: ref.Redundancy.Data, Parity: ref.Redundancy.Parity, Holders: []Holder{}, Silent: []string{}, Missing: []int{},
	}
	holders, err := s.Node.Blocks().Holders(r.Context(), ref.ID)
	if err != nil {
		return out, err
	}
	var live past.Indexes
	for _, h := range holders {
		live |= h.Live
		if !h.Answered {
			out.Silent = append(out.Silent, h.Node.String())
		} else if h.Live|h.Trashed != 0 {
			out.Holders = append(out.Holders, Holder{h.Node, indexes(h.Live), indexes(h.Trashed)})
		}
	}
	for i := range ref.Redundancy.Total() {
		if !live.Has(i) {
			out.Missing = append(out.Missing, i)
		}
	}
	return out, nil
}

func indexes(set past.Indexes) []int {
	out := []int{}
	for i := range past.FragmentsMax {
		if set.Has(i) {
			out = append(out, i)
		}
	}
	return out
}
