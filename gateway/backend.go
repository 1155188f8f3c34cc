package gateway

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors of a Backend that the table in errors.go turns into S3's. Implementations wrap them.
var (
	ErrNoSuchBucket     = errors.New("no such bucket")
	ErrBucketExists     = errors.New("bucket exists")
	ErrBucketNotEmpty   = errors.New("bucket not empty")
	ErrNoSuchKey        = errors.New("no such object key")
	ErrNoSuchUpload     = errors.New("no such upload")
	ErrInvalidPart      = errors.New("a part is missing or its ETag differs")
	ErrInvalidPartOrder = errors.New("parts are not in ascending order")
	ErrPartTooSmall     = errors.New("a part before the last is smaller than 5 MiB")
	ErrPrecondition     = errors.New("precondition failed")
	// ErrConflict says that a conditional write may or may not have happened (409 ConditionalRequestConflict).
	ErrConflict = errors.New("conflicting conditional operation")
	// ErrUnavailable says that too few nodes answered; the same request may work later (503).
	ErrUnavailable = errors.New("too few nodes reachable")
	ErrOverloaded  = errors.New("overloaded") // 503 SlowDown
	ErrNoSpace     = errors.New("no space")   // 507 in S3's form: InsufficientStorage
	// ErrNoSuchAccessKey is a Keyring's answer.
	ErrNoSuchAccessKey = errors.New("no such access key")
)

// Backend keeps buckets, objects and uploads. It evaluates no S3 header: the front hands it bytes, documents and Checks.
// gateway/objects keeps them in PAST. All methods are safe for concurrent use and return errors that wrap those above.
type Backend interface {
	// CreateBucket makes b, or returns ErrBucketExists together with the bucket that is there.
	CreateBucket(ctx context.Context, b Bucket) (Bucket, error)
	DeleteBucket(ctx context.Context, name string) error
	Bucket(ctx context.Context, name string) (Bucket, error)
	// Buckets returns every bucket, sorted by name.
	Buckets(ctx context.Context) ([]Bucket, error)

	// Put stores one object. If in.Check is nil the write is blind and wins over whatever was there; otherwise Check is
	// evaluated on the object that the write would replace, atomically with it.
	Put(ctx context.Context, bucket, objectKey string, in PutInput) (Object, error)
	// Open pins the newest version of an object for reading. The caller closes it.
	Open(ctx context.Context, bucket, objectKey string) (OpenObject, error)
	// Delete removes the object. Deleting what is not there is no error; a non-nil check sees the object or nil.
	Delete(ctx context.Context, bucket, objectKey string, check Check) error
	// Copy makes dst from src's bytes. meta replaces the source's metadata if it is not nil. src was opened with Open.
	Copy(ctx context.Context, src OpenObject, bucket, objectKey string, in CopyInput) (Object, error)
	List(ctx context.Context, bucket string, q ListQuery) (ListPage, error)

	CreateUpload(ctx context.Context, bucket, objectKey string, in UploadInput) (Upload, error)
	Upload(ctx context.Context, bucket, objectKey, uploadID string) (Upload, error)
	PutPart(ctx context.Context, bucket, objectKey, uploadID string, number int, in PutInput) (Part, error)
	// CopyPart makes a part from n bytes of src from offset off.
	CopyPart(ctx context.Context, src OpenObject, off, n int64, bucket, objectKey, uploadID string, number int) (Part, error)
	// Complete makes the object of the named parts. It may be called again, by anybody, with the same answer.
	Complete(ctx context.Context, bucket, objectKey, uploadID string, in CompleteInput) (Object, error)
	Abort(ctx context.Context, bucket, objectKey, uploadID string) error
	// ListParts returns up to max parts with numbers above after, ascending, and whether there are more.
	ListParts(ctx context.Context, bucket, objectKey, uploadID string, after, max int) ([]Part, bool, error)
	ListUploads(ctx context.Context, bucket string, q UploadQuery) (UploadPage, error)
}

// Check decides on a conditional operation. cur is what is stored now, nil if nothing. A nil error lets the operation go
// on; any other error becomes its result. It may be called several times and must not block.
type Check func(cur *Object) error

// Bucket is one bucket.
type Bucket struct {
	Name    string
	Region  string
	Owner   string // user name
	Created time.Time
}

// Object is what is known of one stored object without its bytes.
type Object struct {
	Key        string
	Size       int64  // bytes
	ETag       string // without quotes: MD5 in hex, or md5-N for a multipart object
	Modified   time.Time
	Metadata   Metadata
	Checksums  []Checksum
	PartsCount int // 0 if it was not a multipart upload
	Owner      string
}

// Metadata is what S3 keeps for the client and gives back in headers. The front checks its size (2 KB of user metadata).
type Metadata struct {
	ContentType        string
	ContentEncoding    string // without aws-chunked
	ContentDisposition string
	ContentLanguage    string
	CacheControl       string
	Expires            string            // as sent
	WebsiteRedirect    string            // x-amz-website-redirect-location
	StorageClass       string            // "" is STANDARD
	User               map[string]string // x-amz-meta-NAME, names in lower case
}

// Checksum is one checksum as S3 reports it.
type Checksum struct {
	Algorithm string // CRC32, CRC32C, CRC64NVME, SHA1, SHA256
	Value     string // base64; COMPOSITE values end in -N
	Type      string // FULL_OBJECT or COMPOSITE
}

// PutInput is one body with what belongs to it.
type PutInput struct {
	// Body yields the object's bytes, decoded. Its error ends the Put, and nothing becomes visible.
	Body io.Reader
	// Size is the number of bytes that Body will yield, in bytes, or -1 if it is not known.
	Size int64
	// Digest is given every byte of Body in order, on one goroutine that runs beside the storing of the bytes.
	Digest Digest
	// Metadata and Owner are ignored for parts.
	Metadata Metadata
	Owner    string
	Check    Check
}

// Digest computes and verifies what the request says of its body.
type Digest interface {
	io.Writer
	// Finish is called once after the last byte. It returns the sums to store, or the S3 error (BadDigest,
	// XAmzContentSHA256Mismatch, …) that refuses the body.
	Finish() (Sums, error)
}

// Sums are the sums of one body.
type Sums struct {
	ETag      string // MD5 in hex
	Checksums []Checksum
}

// CopyInput says what the copy gets instead of its source's.
type CopyInput struct {
	Metadata *Metadata // nil: the source's
	Owner    string
	Check    Check
	// Digest, if not nil, computes a checksum over the bytes that the source does not have.
	Digest Digest
}

// OpenObject is one version of an object, readable although it is overwritten meanwhile.
type OpenObject interface {
	Info() Object
	// Part returns where part number (from 1) of a multipart object lies; ok is false if there is none.
	Part(number int) (p Part, off int64, ok bool)
	// WriteRange writes n bytes from offset off to w. Every byte was verified before it is written.
	WriteRange(ctx context.Context, w io.Writer, off, n int64) error
	Close() error
}

// ListQuery asks for a page of objects.
type ListQuery struct {
	Prefix    string
	Delimiter string
	After     string // entries and common prefixes sort after it
	Max       int    // entries and common prefixes together; 0 returns an empty page
}

// ListPage is a page, in the order of the bytes of the keys. Common prefixes and objects are each sorted.
type ListPage struct {
	Objects        []Object
	CommonPrefixes []string
	Truncated      bool
	Next           string // ListQuery.After for the next page: the last object key or common prefix returned
}

// UploadInput starts a multipart upload.
type UploadInput struct {
	Metadata          Metadata
	Owner             string
	ChecksumAlgorithm string // "" or as in Checksum
	ChecksumType      string // "", COMPOSITE or FULL_OBJECT
}

// Upload is a multipart upload in progress.
type Upload struct {
	Key       string
	ID        string
	Initiated time.Time
	UploadInput
}

// Part is one part of an upload or of a multipart object.
type Part struct {
	Number    int // 1 to 10,000
	Size      int64
	ETag      string
	Modified  time.Time
	Checksums []Checksum
}

// CompleteInput names the parts of the object to make.
type CompleteInput struct {
	Parts []CompletedPart // ascending, as sent
	Check Check
	// Checksum is the full-object or composite checksum that the client claims; the zero value claims none.
	Checksum Checksum
	// Size is the object size that the client claims (x-amz-mp-object-size), -1 for none.
	Size int64
}

// CompletedPart is one part as the client names it.
type CompletedPart struct {
	Number    int
	ETag      string
	Checksums []Checksum
}

// UploadQuery asks for a page of uploads in progress.
type UploadQuery struct {
	Prefix, Delimiter        string
	KeyMarker, UploadIDAfter string
	Max                      int
}

// UploadPage is a page of uploads, sorted by key, then by time of initiation.
type UploadPage struct {
	Uploads             []Upload
	CommonPrefixes      []string
	Truncated           bool
	NextKey, NextUpload string
}
