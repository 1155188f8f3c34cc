package gateway

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"larder/gateway/checksum"
	"larder/gateway/s3xml"
)

const (
	// maxPartNumber bounds part numbers, and with them the parts of an object.
	maxPartNumber = 10_000
	// MinPart is the least size of a part before the last, in bytes.
	MinPart = 5 << 20
	// MaxMultipart is the longest multipart object, in bytes (S3: 50 TB since December 2025; Larder: 5 TiB, design.md §4).
	MaxMultipart = 5 << 40
)

// createUpload starts a multipart upload.
func (q *request) createUpload() error {
	meta, err := q.metadata()
	if err != nil {
		return err
	}
	in := UploadInput{Metadata: meta, Owner: q.who.User}
	if name := q.r.Header.Get("X-Amz-Checksum-Algorithm"); name != "" {
		a := checksum.ByName(name)
		if a == nil {
			return invalidAlgorithm()
		}
		in.ChecksumAlgorithm, in.ChecksumType = a.Name, a.MultipartType()
	}
	if kind := strings.ToUpper(q.r.Header.Get("X-Amz-Checksum-Type")); kind != "" {
		a := checksum.ByName(in.ChecksumAlgorithm)
		switch {
		case kind != checksum.Composite && kind != checksum.FullObject:
			return refusef("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
		case a == nil:
			return refusef("InvalidRequest", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		case !a.AllowsType(kind):
			return refusef("InvalidRequest", "The %s checksum type cannot be used with the %s checksum algorithm.", kind, strings.ToLower(a.Name))
		}
		in.ChecksumType = kind
	}
	u, err := q.g.Backend.CreateUpload(q.r.Context(), q.bucket, q.key, in)
	if err != nil {
		return err
	}
	h := q.w.Header()
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	if in.ChecksumAlgorithm != "" {
		h.Set("X-Amz-Checksum-Algorithm", in.ChecksumAlgorithm)
		h.Set("X-Amz-Checksum-Type", in.ChecksumType)
	}
	return q.document(http.StatusOK, s3xml.InitiateMultipartUploadResult{Bucket: q.bucket, Key: s3xml.Text(q.key), UploadID: u.ID})
}

func (q *request) partNumber() (int, error) {
	return parsePartNumber(q.query.Get("partNumber"))
}

func parsePartNumber(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > maxPartNumber {
		return 0, invalidArgument("partNumber", value, "Part number must be an integer between 1 and 10000, inclusive.")
	}
	return n, nil
}

// uploadPart stores the body as one part.
func (q *request) uploadPart() error {
	number, err := q.partNumber()
	if err != nil {
		return err
	}
	id := q.query.Get("uploadId")
	u, err := q.g.Backend.Upload(q.r.Context(), q.bucket, q.key, id)
	if err != nil {
		return err
	}
	digest, err := q.newDigest(u.ChecksumAlgorithm)
	if err != nil {
		return err
	}
	if u.ChecksumType == checksum.Composite && !digest.named {
		return refusef("InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: null", strings.ToLower(u.ChecksumAlgorithm))
	}
	if u.ChecksumAlgorithm != "" && digest.algorithm.Name != u.ChecksumAlgorithm {
		return refusef("InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s",
			strings.ToLower(u.ChecksumAlgorithm), strings.ToLower(digest.algorithm.Name))
	}
	p, err := q.g.Backend.PutPart(q.r.Context(), q.bucket, q.key, id, number, PutInput{Body: q.body, Size: q.body.size, Digest: digest})
	if err != nil {
		return err
	}
	q.w.Header().Set("ETag", quote(p.ETag))
	q.w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
	for _, c := range p.Checksums {
		q.setChecksums([]Checksum{{Algorithm: c.Algorithm, Value: c.Value}})
	}
	return q.empty(http.StatusOK)
}

// completeUpload makes the object of the parts that the body names.
func (q *request) completeUpload() error {
	check, err := q.writeCheck()
	if err != nil {
		return err
	}
	in := CompleteInput{Check: check, Size: -1}
	if value := q.r.Header.Get("X-Amz-Mp-Object-Size"); value != "" {
		if in.Size, err = strconv.ParseInt(value, 10, 64); err != nil {
			return refusef("InvalidRequest", "Value for x-amz-mp-object-size header is invalid.")
		}
		if in.Size < 0 {
			return refusef("InvalidRequest", "Value for x-amz-mp-object-size header is less than zero: '%d'", in.Size)
		}
	}
	if in.Checksum, err = q.claimedObjectChecksum(); err != nil {
		return err
	}
	body, err := q.readCompletion()
	if err != nil {
		return err
	}
	if in.Parts, err = completedParts(body); err != nil {
		return err
	}
	id := q.query.Get("uploadId")
	q.w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
	return q.slowly(func(ctx context.Context) (any, error) {
		o, err := q.g.Backend.Complete(ctx, q.bucket, q.key, id, in)
		if err != nil {
			return nil, err
		}
		doc := s3xml.CompleteMultipartUploadResult{Location: s3xml.Text(q.location()), Bucket: q.bucket, Key: s3xml.Text(q.key), ETag: quote(o.ETag), Checksums: checksums(o.Checksums)}
		if len(o.Checksums) > 0 {
			doc.ChecksumType = o.Checksums[0].Type
		}
		return doc, nil
	})
}

// location returns the object's own URL.
func (q *request) location() string {
	scheme := "http://"
	if q.r.TLS != nil {
		scheme = "https://"
	}
	if q.virtual {
		return scheme + q.r.Host + "/" + q.key
	}
	return scheme + q.r.Host + q.resource()
}

// claimedObjectChecksum returns the checksum of the whole object that the header of a Complete claims. It is not one of the
// body, so it is taken out of the header before the body is checked.
func (q *request) claimedObjectChecksum() (Checksum, error) {
	var out Checksum
	kind := strings.ToUpper(q.r.Header.Get("X-Amz-Checksum-Type"))
	if kind != "" && kind != checksum.Composite && kind != checksum.FullObject {
		return out, refusef("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
	}
	for _, a := range checksum.Algorithms {
		name := http.CanonicalHeaderKey(a.Header())
		value := q.r.Header.Get(name)
		if value == "" {
			continue
		}
		plain, count, composite := strings.Cut(value, "-")
		if out.Value != "" {
			return out, refusef("InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		if _, err := strconv.ParseUint(count, 10, 16); !a.Valid(plain) || composite && err != nil {
			return out, refusef("InvalidRequest", "Value for %s header is invalid.", a.Header())
		}
		out = Checksum{Algorithm: a.Name, Value: value, Type: kind}
	}
	if out.Value == "" && kind != "" {
		out.Type = kind
	}
	return out, nil
}

// readCompletion reads the body of a Complete, whose x-amz-checksum- headers speak of the object.
func (q *request) readCompletion() ([]byte, error) {
	r := q.r
	defer func() { q.r = r }()
	q.r = r.Clone(r.Context())
	for _, a := range checksum.Algorithms {
		q.r.Header.Del(a.Header())
	}
	q.r.Header.Del("X-Amz-Sdk-Checksum-Algorithm")
	return q.readDocument(maxDocument)
}

// completedParts decodes and checks the list of parts of a Complete.
func completedParts(body []byte) ([]CompletedPart, error) {
	var doc s3xml.CompleteMultipartUpload
	if err := s3xml.Decode(bytes.NewReader(body), maxDocument, &doc); err != nil {
		return nil, err
	}
	if len(doc.Parts) == 0 || len(doc.Parts) > maxPartNumber {
		return nil, refuse("MalformedXML")
	}
	parts := make([]CompletedPart, len(doc.Parts))
	for i, p := range doc.Parts {
		switch {
		case p.PartNumber == nil || p.ETag == "":
			return nil, refuse("MalformedXML")
		case *p.PartNumber < 1 || *p.PartNumber > maxPartNumber:
			return nil, invalidArgument("PartNumber", strconv.Itoa(*p.PartNumber), "PartNumber must be >= 1")
		case i > 0 && *p.PartNumber <= parts[i-1].Number:
			return nil, ErrInvalidPartOrder
		}
		sums := claimedChecksums(p.Checksums)
		if len(sums) > 1 || len(sums) == 1 && !checksum.ByName(sums[0].Algorithm).Valid(sums[0].Value) {
			return nil, refusef("InvalidArgument", "Invalid Base64 or multiple checksums present in request")
		}
		parts[i] = CompletedPart{Number: *p.PartNumber, ETag: unquote(p.ETag), Checksums: sums}
	}
	return parts, nil
}

func (q *request) abortUpload() error {
	id := q.query.Get("uploadId")
	if value := q.r.Header.Get("X-Amz-If-Match-Initiated-Time"); value != "" {
		var want s3xml.Time
		if err := want.UnmarshalText([]byte(value)); err != nil {
			return invalidArgument("x-amz-if-match-initiated-time", value, "The time is malformed.")
		}
		u, err := q.g.Backend.Upload(q.r.Context(), q.bucket, q.key, id)
		if err != nil {
			return err
		}
		// The time of an upload never changes, so nothing can come between this and the Abort.
		if !time.Time(want).Truncate(time.Second).Equal(u.Initiated.Truncate(time.Second)) {
			return failedCondition("x-amz-if-match-initiated-time")
		}
	}
	if err := q.g.Backend.Abort(q.r.Context(), q.bucket, q.key, id); err != nil {
		return err
	}
	return q.empty(http.StatusNoContent)
}

func (q *request) listParts() error {
	limit, err := q.count("max-parts", maxPage, 0)
	if err != nil {
		return err
	}
	after := 0
	if q.query.Get("part-number-marker") != "" {
		if after, err = q.count("part-number-marker", 1<<31-1, 0); err != nil {
			return err
		}
	}
	encoding, encode, err := q.encoder()
	if err != nil {
		return err
	}
	id := q.query.Get("uploadId")
	u, err := q.g.Backend.Upload(q.r.Context(), q.bucket, q.key, id)
	if err != nil {
		return err
	}
	parts, more, err := q.g.Backend.ListParts(q.r.Context(), q.bucket, q.key, id, after, limit)
	if err != nil {
		return err
	}
	doc := s3xml.ListPartsResult{Bucket: q.bucket, Key: encode(q.key), UploadID: id, Initiator: owner(u.Owner), Owner: owner(q.info.Owner),
		StorageClass: storageClass(u.Metadata), PartNumberMarker: after, MaxParts: limit, IsTruncated: more, EncodingType: encoding,
		ChecksumAlgorithm: u.ChecksumAlgorithm, ChecksumType: u.ChecksumType}
	for _, p := range parts {
		doc.Parts = append(doc.Parts, s3xml.PartEntry{PartNumber: p.Number, LastModified: s3xml.Time(p.Modified), ETag: quote(p.ETag), Size: p.Size, Checksums: checksums(p.Checksums)})
		doc.NextPartNumberMarker = p.Number
	}
	return q.document(http.StatusOK, doc)
}

func (q *request) listUploads() error {
	limit, err := q.count("max-uploads", maxPage, 0)
	if err != nil {
		return err
	}
	encoding, encode, err := q.encoder()
	if err != nil {
		return err
	}
	in := UploadQuery{Prefix: q.query.Get("prefix"), Delimiter: q.query.Get("delimiter"), KeyMarker: q.query.Get("key-marker"), Max: limit}
	if in.KeyMarker != "" { // without a key the upload id says nothing
		in.UploadIDAfter = q.query.Get("upload-id-marker")
	}
	var page UploadPage
	if limit > 0 {
		if page, err = q.g.Backend.ListUploads(q.r.Context(), q.bucket, in); err != nil {
			return err
		}
	}
	doc := s3xml.ListMultipartUploadsResult{Bucket: q.bucket, KeyMarker: encode(in.KeyMarker), UploadIDMarker: in.UploadIDAfter, Delimiter: encode(in.Delimiter),
		Prefix: encode(in.Prefix), EncodingType: encoding, MaxUploads: limit, IsTruncated: page.Truncated}
	if page.Truncated {
		doc.NextKeyMarker, doc.NextUploadIDMarker = encode(page.NextKey), page.NextUpload
	}
	for _, u := range page.Uploads {
		doc.Uploads = append(doc.Uploads, s3xml.UploadEntry{Key: encode(u.Key), UploadID: u.ID, Initiator: owner(u.Owner), Owner: owner(q.info.Owner),
			StorageClass: storageClass(u.Metadata), Initiated: s3xml.Time(u.Initiated), ChecksumAlgorithm: u.ChecksumAlgorithm, ChecksumType: u.ChecksumType})
	}
	for _, p := range page.CommonPrefixes {
		doc.CommonPrefixes = append(doc.CommonPrefixes, s3xml.CommonPrefix{Prefix: encode(p)})
	}
	return q.document(http.StatusOK, doc)
}
