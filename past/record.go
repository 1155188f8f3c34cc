package past

// Space is one of the order-preserving key spaces of a partition (design.md §5).
type Space uint8

// The spaces. Their numbers are part of the disk format.
const (
	SpaceHead    Space = 1 // the newest version of each object key; in the system partition, its records by name
	SpaceVersion Space = 2 // older versions, by object key and versionId
	SpaceUpload  Space = 3 // multipart uploads and their parts
)

// Register names one register: the newest accepted record of one name at each member of a partition. Sub tells registers
// of one object key in one space apart: a versionId, or an upload and part. Registers with the same bucket, space, object
// key and Sub are one; bucket zero is the realm's system partition.
type Register struct {
	Bucket BucketID
	Space  Space
	Key    string // object key, at most 1,024 bytes
	Sub    string // at most 128 bytes
}

// SystemBucket is the BucketID of the realm's system partition.
var SystemBucket BucketID

// Kind says what a record is.
type Kind uint8

// The kinds. Absent is the zero Record: never written, or forgotten after a deletion.
const (
	Absent    Kind = 0
	Live      Kind = 1
	Tombstone Kind = 2 // deleted; kept until it is known chosen everywhere
)

// Record is the content of one register. What is in clear lets members sort and count; Value and Body are sealed by the
// gateway. A record with its Body is at most RecordMax bytes.
type Record struct {
	Kind     Kind   `cbor:"1,keyasint"`
	Version  string `cbor:"2,keyasint,omitempty"` // versionId
	Length   int64  `cbor:"3,keyasint,omitempty"` // bytes of the object
	Modified int64  `cbor:"4,keyasint,omitempty"` // wall time, nanoseconds since 1970; orders nothing
	Value    []byte `cbor:"5,keyasint,omitempty"` // sealed: ETag, metadata, keys, stripes
	Body     []byte `cbor:"6,keyasint,omitempty"` // sealed inline body; not part of listings
	// BodyHash is the BLAKE3-256 of Body, so that a record without its body still proves itself. Set by the register.
	BodyHash []byte `cbor:"7,keyasint,omitempty"`

	// NotAfter is no part of the record but of the wish to write it. If it is not 0, the record may be proposed only while the clock of
	// registers (nanoseconds since 1970) shows no more: docs/notes/audit.md says whom that protects.
	NotAfter uint64 `cbor:"-"`
}

// Exists reports whether the record is there for clients.
func (r *Record) Exists() bool { return r.Kind == Live }

// StripeRef is what a record or a manifest says of one stripe: enough to ask for it without asking for its header first.
type StripeRef struct {
	_          struct{} `cbor:",toarray"`
	ID         BlockID
	Length     int // bytes of plaintext
	Redundancy Redundancy
}

// ScanQuery asks for a page of registers of one bucket and space.
type ScanQuery struct {
	Bucket BucketID
	Space  Space
	Prefix string // of the object key
	// Delimiter, if not empty, folds object keys that have it after Prefix into common prefixes; the scan seeks past each.
	Delimiter string
	// After and AfterSub: entries sort after this (key, sub). An After that ends a common prefix skips all of that prefix:
	// pass the prefix itself with AfterPrefix set.
	After, AfterSub string
	AfterPrefix     bool
	Max             int // entries and common prefixes together
}

// ScanPage is a page of live registers in (key, sub) order.
type ScanPage struct {
	Entries   []ScanEntry
	Truncated bool
}

// ScanEntry is one live register without its body, or, where CommonPrefix is not empty, one common prefix.
type ScanEntry struct {
	CommonPrefix string
	Key, Sub     string
	Record       Record
}
