package s3xml

import "encoding/xml"

// CopyObjectResult answers CopyObject.
type CopyObjectResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
	LastModified Time
	ETag         string
	ChecksumType string `xml:",omitempty"`
	Checksums
}

// CopyPartResult answers UploadPartCopy.
type CopyPartResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyPartResult"`
	LastModified Time
	ETag         string
	Checksums
}

// Delete is the body of DeleteObjects.
type Delete struct {
	XMLName xml.Name       `xml:"Delete"`
	Quiet   bool           `xml:"Quiet"`
	Objects []DeleteObject `xml:"Object"`
}

// DeleteObject is one object to delete, with its conditions. A nil field was not sent.
type DeleteObject struct {
	Key              string
	VersionID        string  `xml:"VersionId"`
	ETag             *string `xml:"ETag"`
	LastModifiedTime *Time   `xml:"LastModifiedTime"`
	Size             *int64  `xml:"Size"`
}

// DeleteResult answers DeleteObjects.
type DeleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []Deleted
	Errors  []DeleteError `xml:"Error"`
}

// Deleted is one object that is gone.
type Deleted struct {
	Key       Text
	VersionID string `xml:"VersionId,omitempty"`
}

// DeleteError is one object that is not.
type DeleteError struct {
	Key       Text
	VersionID string `xml:"VersionId,omitempty"`
	Code      string
	Message   string
}

// InitiateMultipartUploadResult answers CreateMultipartUpload.
type InitiateMultipartUploadResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
	Bucket   string
	Key      Text
	UploadID string `xml:"UploadId"`
}

// CompleteMultipartUpload is the body of the operation of that name.
type CompleteMultipartUpload struct {
	XMLName xml.Name        `xml:"CompleteMultipartUpload"`
	Parts   []CompletedPart `xml:"Part"`
}

// CompletedPart is one part as the client names it. A nil number was not sent.
type CompletedPart struct {
	PartNumber *int
	ETag       string
	Checksums
}

// CompleteMultipartUploadResult answers CompleteMultipartUpload.
type CompleteMultipartUploadResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
	Location     Text
	Bucket       string
	Key          Text
	ETag         string
	ChecksumType string `xml:",omitempty"`
	Checksums
}

// ListPartsResult answers ListParts.
type ListPartsResult struct {
	XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
	Bucket               string
	Key                  Text
	UploadID             string `xml:"UploadId"`
	Initiator            Owner
	Owner                Owner
	StorageClass         string
	PartNumberMarker     int
	NextPartNumberMarker int
	MaxParts             int
	IsTruncated          bool
	EncodingType         string      `xml:",omitempty"`
	ChecksumAlgorithm    string      `xml:",omitempty"`
	ChecksumType         string      `xml:",omitempty"`
	Parts                []PartEntry `xml:"Part"`
}

// PartEntry is one part in a list.
type PartEntry struct {
	PartNumber   int
	LastModified Time
	ETag         string
	Size         int64
	Checksums
}

// ListMultipartUploadsResult answers ListMultipartUploads.
type ListMultipartUploadsResult struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          Text
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      Text   `xml:",omitempty"`
	NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
	Delimiter          Text   `xml:",omitempty"`
	Prefix             Text
	EncodingType       string `xml:",omitempty"`
	MaxUploads         int
	IsTruncated        bool
	Uploads            []UploadEntry `xml:"Upload"`
	CommonPrefixes     []CommonPrefix
}

// UploadEntry is one upload in a list.
type UploadEntry struct {
	Key               Text
	UploadID          string `xml:"UploadId"`
	Initiator         Owner
	Owner             Owner
	StorageClass      string
	Initiated         Time
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

// GetObjectAttributesResponse answers GetObjectAttributes; what was not asked for is left out.
type GetObjectAttributesResponse struct {
	XMLName      xml.Name     `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
	ETag         string       `xml:",omitempty"`
	Checksum     *Checksum    `xml:",omitempty"`
	ObjectParts  *ObjectParts `xml:",omitempty"`
	StorageClass string       `xml:",omitempty"`
	ObjectSize   *int64       `xml:",omitempty"`
}

// Checksum is an object's checksum with its type.
type Checksum struct {
	Checksums
	ChecksumType string `xml:",omitempty"`
}

// ObjectParts is the parts of a multipart object.
type ObjectParts struct {
	PartsCount           int
	PartNumberMarker     int
	NextPartNumberMarker int
	MaxParts             int
	IsTruncated          bool
	Parts                []ObjectPart `xml:"Part"`
}

// ObjectPart is one part of a multipart object.
type ObjectPart struct {
	PartNumber int
	Size       int64
	Checksums
}
