package objects

import (
	"encoding/binary"
	"fmt"
	"time"

	"larder/gateway"
	"larder/past"
	"larder/past/stripe"

	"github.com/fxamacker/cbor/v2"
)

// value is what an object's record says in its sealed part. A tombstone has one too, with op alone.
type value struct {
	Op        [16]byte `cbor:"1,keyasint"` // of this writing: no two records of one register have the same
	ETag      string   `cbor:"2,keyasint,omitempty"`
	Metadata  metadata `cbor:"3,keyasint,omitempty"`
	Checksums []sum    `cbor:"4,keyasint,omitempty"`
	Owner     string   `cbor:"5,keyasint,omitempty"`
	// One of the next three says where the bytes are: Body of an object that was put whole; Parts of a multipart object, or
	// Table, which holds the same as a CBOR sequence where it is long.
	Body       *body  `cbor:"6,keyasint,omitempty"`
	Parts      []part `cbor:"7,keyasint,omitempty"`
	Table      *body  `cbor:"8,keyasint,omitempty"`
	PartsCount int    `cbor:"9,keyasint,omitempty"`
	Upload     string `cbor:"10,keyasint,omitempty"` // the upload that it was made of; Op is then its attempt
	Length     int64  `cbor:"11,keyasint,omitempty"` // bytes, as in the record
}

// part is one part of an upload or of a multipart object.
type part struct {
	Number    int    `cbor:"1,keyasint"`
	ETag      string `cbor:"2,keyasint"`
	Modified  int64  `cbor:"3,keyasint"` // wall time, nanoseconds since 1970
	Checksums []sum  `cbor:"4,keyasint,omitempty"`
	Body      body   `cbor:"5,keyasint"`
}

type metadata struct {
	ContentType        string            `cbor:"1,keyasint,omitempty"`
	ContentEncoding    string            `cbor:"2,keyasint,omitempty"`
	ContentDisposition string            `cbor:"3,keyasint,omitempty"`
	ContentLanguage    string            `cbor:"4,keyasint,omitempty"`
	CacheControl       string            `cbor:"5,keyasint,omitempty"`
	Expires            string            `cbor:"6,keyasint,omitempty"`
	WebsiteRedirect    string            `cbor:"7,keyasint,omitempty"`
	StorageClass       string            `cbor:"8,keyasint,omitempty"`
	User               map[string]string `cbor:"9,keyasint,omitempty"`
}

type sum struct {
	Algorithm string `cbor:"1,keyasint"`
	Value     string `cbor:"2,keyasint"`
	Type      string `cbor:"3,keyasint,omitempty"`
}

var encMode, decMode = codecModes()

// codecModes are deterministic encoding (RFC 8949 §4.2.1) and a decoder bounded by what a record or part table may hold.
func codecModes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8, MaxArrayElements: 20_000, MaxMapPairs: 4096,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

func encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic("objects: " + err.Error()) // only types of this package are encoded
	}
	return b
}

// registerAD binds a sealed value to its register: bucket (16 bytes), space (1), length of the key (2), key, sub.
func registerAD(r past.Register) []byte {
	ad := make([]byte, 0, 19+len(r.Key)+len(r.Sub))
	ad = append(append(ad, r.Bucket[:]...), byte(r.Space))
	ad = binary.BigEndian.AppendUint16(ad, uint16(len(r.Key)))
	return append(append(ad, r.Key...), r.Sub...)
}

// seal encodes v for register r.
func (s *Store) seal(r past.Register, v any) []byte { return s.sealer.Seal(encode(v), registerAD(r)) }

// open decodes the sealed value of a record of register r into v.
func (s *Store) open(r past.Register, rec *past.Record, v any) error {
	plain, err := s.sealer.Open(rec.Value, registerAD(r))
	if err == nil {
		err = decode(plain, v)
	}
	if err != nil {
		return fmt.Errorf("objects: record of space %d: %w", r.Space, err)
	}
	return nil
}

// head decodes the record of an object; v is nil if there is none. op is the record's identity also where it is a tombstone,
// and zero where there never was one.
func (s *Store) head(r past.Register, rec *past.Record) (v *value, op [16]byte, err error) {
	if len(rec.Value) == 0 {
		return nil, op, nil
	}
	v = new(value)
	if err := s.open(r, rec, v); err != nil {
		return nil, op, err
	}
	if err := v.valid(rec); err != nil {
		return nil, op, fmt.Errorf("objects: record of space %d: %w", r.Space, err)
	}
	if !rec.Exists() {
		return nil, v.Op, nil
	}
	return v, v.Op, nil
}

// valid checks what readers rely on.
func (v *value) valid(rec *past.Record) error {
	if !rec.Exists() {
		return nil
	}
	switch {
	case v.Length != rec.Length:
		return fmt.Errorf("%d bytes in a record of %d", v.Length, rec.Length)
	case v.Body != nil:
		return validParts([]part{{Body: *v.Body}}, v.Length)
	case v.Table != nil && v.Table.Length > tableMax:
		return fmt.Errorf("part table of %d bytes", v.Table.Length)
	case v.Table != nil:
		return v.Table.valid()
	}
	return validParts(v.Parts, v.Length)
}

func validParts(parts []part, length int64) error {
	var sum int64
	for i := range parts {
		if err := parts[i].Body.valid(); err != nil {
			return err
		}
		if i > 0 && parts[i].Number <= parts[i-1].Number {
			return fmt.Errorf("part %d after part %d", parts[i].Number, parts[i-1].Number)
		}
		sum += parts[i].Body.Length
	}
	if sum != length {
		return fmt.Errorf("parts of %d bytes in a record of %d", sum, length)
	}
	return nil
}

// tombstone is the record of an object that was deleted.
func (s *Store) tombstone(r past.Register) past.Record {
	return past.Record{Kind: past.Tombstone, Modified: time.Now().UnixNano(), Value: s.seal(r, &value{Op: random16()})}
}

// object is what the front is told of a record.
func (v *value) object(key string, rec *past.Record) *gateway.Object {
	if v == nil {
		return nil
	}
	return &gateway.Object{
		Key: key, Size: rec.Length, ETag: v.ETag, Modified: time.Unix(0, rec.Modified).UTC(), Metadata: v.Metadata.out(),
		Checksums: outChecksums(v.Checksums), PartsCount: v.PartsCount, Owner: v.Owner,
	}
}

func (p *part) out() gateway.Part {
	return gateway.Part{Number: p.Number, Size: p.Body.Length, ETag: p.ETag, Modified: time.Unix(0, p.Modified).UTC(), Checksums: outChecksums(p.Checksums)}
}

func (m metadata) out() gateway.Metadata { return gateway.Metadata(m) }

func inMetadata(m gateway.Metadata) metadata { return metadata(m) }

func inChecksums(in []gateway.Checksum) (out []sum) {
	for _, c := range in {
		out = append(out, sum(c))
	}
	return out
}

func outChecksums(in []sum) (out []gateway.Checksum) {
	for _, c := range in {
		out = append(out, gateway.Checksum(c))
	}
	return out
}

// body is where the bytes of one dataID are.
type body struct {
	Data   past.DataID `cbor:"1,keyasint"`
	Secret [32]byte    `cbor:"2,keyasint"`
	Length int64       `cbor:"3,keyasint"` // bytes
	// Inline says that the bytes are in the record, sealed as stripe 0. Otherwise Rows lists the stripes, all but the last of
	// past.StripeMax bytes, or, where Manifest is set, the stripes of level 1 that list them, full but for the last.
	Inline   bool   `cbor:"4,keyasint,omitempty"`
	Manifest bool   `cbor:"5,keyasint,omitempty"`
	Rows     []byte `cbor:"6,keyasint,omitempty"`
}

// A row names one stripe: its id (32 bytes), d (1), p (1).
const (
	rowBytes = 32 + 1 + 1
	// rowsInline is how many rows a record or a part table's entry holds: 64 MiB of bytes in 544 bytes.
	rowsInline = 16
	// manifestRows is how many rows a stripe of a manifest holds, 482 GiB of bytes each; a record has room for 64 of them.
	manifestRows = past.StripeMax / rowBytes
	manifestMax  = 64
	manifestBase = uint64(1) << 56 // stripe numbers of level 1 (docs/notes/stripes.md)
)

func appendRow(dst []byte, ref past.StripeRef) []byte {
	dst = append(dst, ref.ID[:]...)
	return append(dst, byte(ref.Redundancy.Data), byte(ref.Redundancy.Parity))
}

// row decodes a row; length is that of the stripe it names.
func row(b []byte, length int) (ref past.StripeRef, err error) {
	ref.Length = length
	copy(ref.ID[:], b)
	ref.Redundancy = past.Redundancy{Data: int(b[32]), Parity: int(b[33])}
	if !ref.Redundancy.Valid() {
		return ref, fmt.Errorf("stripe %v coded as %d + %d", ref.ID, ref.Redundancy.Data, ref.Redundancy.Parity)
	}
	return ref, nil
}

// stripes is how many stripes hold the bytes.
func (b *body) stripes() int64 {
	if b.Inline {
		return 0
	}
	return (b.Length + past.StripeMax - 1) / past.StripeMax
}

// stripeLen is the length of stripe i.
func (b *body) stripeLen(i int64) int {
	return int(min(past.StripeMax, b.Length-i*past.StripeMax))
}

// manifestLen is the length of stripe m of the manifest.
func (b *body) manifestLen(m int64) int {
	return int(min(manifestRows, b.stripes()-m*manifestRows)) * rowBytes
}

func (b *body) valid() error {
	rows := b.stripes()
	if b.Manifest {
		rows = (rows + manifestRows - 1) / manifestRows
	}
	if b.Length < 0 || b.Inline && b.Length > past.InlineMax || rows > manifestMax || int64(len(b.Rows)) != rows*rowBytes {
		return fmt.Errorf("body of %d bytes with %d bytes of rows", b.Length, len(b.Rows))
	}
	return nil
}

func (b *body) key() *stripe.Key { return stripe.NewKey(b.Secret, b.Data) }

// dataIDs are the bodies that v refers to; parts are those of v, loaded.
func (v *value) dataIDs(parts []part) map[past.DataID]bool {
	ids := map[past.DataID]bool{}
	for _, b := range []*body{v.Body, v.Table} {
		if b != nil {
			ids[b.Data] = true
		}
	}
	for i := range parts {
		ids[parts[i].Body.Data] = true
	}
	return ids
}
