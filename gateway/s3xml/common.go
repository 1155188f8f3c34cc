package s3xml

import "encoding/xml"

// Error is the body of a failed request. It is in no namespace.
type Error struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   Text
	Facts     []Fact
	Resource  Text   `xml:",omitempty"`
	RequestID string `xml:"RequestId"`
	HostID    string `xml:"HostId"`
}

// Fact is one more element of an Error, such as BucketName.
type Fact struct {
	XMLName xml.Name
	Value   string `xml:",chardata"`
}

// Owner is a user as S3 shows one.
type Owner struct {
	ID          string
	DisplayName string `xml:",omitempty"`
}

// Checksums holds at most one value of each algorithm, in base64.
type Checksums struct {
	CRC32     string `xml:"ChecksumCRC32,omitempty"`
	CRC32C    string `xml:"ChecksumCRC32C,omitempty"`
	CRC64NVME string `xml:"ChecksumCRC64NVME,omitempty"`
	SHA1      string `xml:"ChecksumSHA1,omitempty"`
	SHA256    string `xml:"ChecksumSHA256,omitempty"`
	SHA512    string `xml:"ChecksumSHA512,omitempty"`
	MD5       string `xml:"ChecksumMD5,omitempty"`
	XXHASH64  string `xml:"ChecksumXXHASH64,omitempty"`
	XXHASH3   string `xml:"ChecksumXXHASH3,omitempty"`
	XXHASH128 string `xml:"ChecksumXXHASH128,omitempty"`
}

// Field returns where the value of an algorithm stands, nil if there is no such algorithm.
func (c *Checksums) Field(algorithm string) *string {
	switch algorithm {
	case "CRC32":
		return &c.CRC32
	case "CRC32C":
		return &c.CRC32C
	case "CRC64NVME":
		return &c.CRC64NVME
	case "SHA1":
		return &c.SHA1
	case "SHA256":
		return &c.SHA256
	case "SHA512":
		return &c.SHA512
	case "MD5":
		return &c.MD5
	case "XXHASH64":
		return &c.XXHASH64
	case "XXHASH3":
		return &c.XXHASH3
	case "XXHASH128":
		return &c.XXHASH128
	}
	return nil
}

// CommonPrefix is one group of a listing.
type CommonPrefix struct{ Prefix Text }
