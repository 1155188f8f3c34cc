package s3xml

import "encoding/xml"

// ListAllMyBucketsResult answers ListBuckets.
type ListAllMyBucketsResult struct {
	XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner             Owner
	Buckets           []BucketEntry `xml:"Buckets>Bucket"`
	ContinuationToken string        `xml:",omitempty"`
	Prefix            *Text         `xml:",omitempty"`
}

// BucketEntry is one bucket in a list.
type BucketEntry struct {
	Name         string
	CreationDate Time
	BucketRegion string `xml:",omitempty"`
}

// CreateBucketConfiguration is the optional body of CreateBucket.
type CreateBucketConfiguration struct {
	XMLName            xml.Name `xml:"CreateBucketConfiguration"`
	LocationConstraint string
	Other              []Any `xml:",any"`
}

// Any is an element that is named and not looked into.
type Any struct{ XMLName xml.Name }

// LocationConstraint answers GetBucketLocation.
type LocationConstraint struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
	Region  string   `xml:",chardata"`
}

// ListBucketResult answers ListObjects, version 1.
type ListBucketResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name         string
	Prefix       Text
	Marker       Text
	NextMarker   Text `xml:",omitempty"`
	MaxKeys      int
	Delimiter    Text   `xml:",omitempty"`
	EncodingType string `xml:",omitempty"`
	IsTruncated  bool
	Contents
	CommonPrefixes []CommonPrefix
}

// ListBucketResultV2 answers ListObjectsV2.
type ListBucketResultV2 struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                Text
	StartAfter            Text   `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              int
	MaxKeys               int
	Delimiter             Text   `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Contents
	CommonPrefixes []CommonPrefix
}

// ObjectEntry is one object in a listing.
type ObjectEntry struct {
	Key               Text
	LastModified      Time
	ETag              string
	ChecksumAlgorithm []string `xml:",omitempty"`
	ChecksumType      string   `xml:",omitempty"`
	Size              int64
	Owner             *Owner `xml:",omitempty"`
	StorageClass      string
}

// AccessControlPolicy answers the GET of an ACL: one grant, FULL_CONTROL for the owner.
type AccessControlPolicy struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ AccessControlPolicy"`
	Owner   Owner
	Grants  []Grant `xml:"AccessControlList>Grant"`
}

// Grant is one line of an ACL.
type Grant struct {
	Grantee    Grantee
	Permission string
}

// Grantee is a user in an ACL.
type Grantee struct {
	Xsi         string `xml:"xmlns:xsi,attr"`
	Type        string `xml:"xsi:type,attr"`
	ID          string
	DisplayName string `xml:",omitempty"`
}

// CanonicalUser returns the grant of everything to one user.
func CanonicalUser(o Owner) Grant {
	return Grant{Grantee: Grantee{Xsi: "http://www.w3.org/2001/XMLSchema-instance", Type: "CanonicalUser", ID: o.ID,
		DisplayName: o.DisplayName}, Permission: "FULL_CONTROL"}
}

// Empty is a document with nothing in it: the state of a bucket feature that is off.
type Empty struct{ XMLName xml.Name }

// NewEmpty returns an empty document with this root.
func NewEmpty(root string) Empty { return Empty{xml.Name{Space: Namespace, Local: root}} }

// Tagging answers the GET of an object's tags.
type Tagging struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
	TagSet  struct{}
}

// RequestPaymentConfiguration answers GetBucketRequestPayment.
type RequestPaymentConfiguration struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ RequestPaymentConfiguration"`
	Payer   string
}

// ServerSideEncryptionConfiguration answers GetBucketEncryption.
type ServerSideEncryptionConfiguration struct {
	XMLName          xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ServerSideEncryptionConfiguration"`
	SSEAlgorithm     string   `xml:"Rule>ApplyServerSideEncryptionByDefault>SSEAlgorithm"`
	BucketKeyEnabled bool     `xml:"Rule>BucketKeyEnabled"`
}
