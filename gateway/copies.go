package gateway

import (
	"context"
	"net/http"
	"strings"
	"time"

	"larder/auth/sigv4"
	"larder/gateway/checksum"
	"larder/gateway/s3xml"
)

// source is the opened source of a copy.
type source struct {
	OpenObject
	bucket, key string
}

// openSource reads x-amz-copy-source, checks that the user may read it and that its conditions hold, and opens it.
func (q *request) openSource() (*source, error) {
	header := q.r.Header.Get("X-Amz-Copy-Source")
	malformed := func(message string) (*source, error) {
		return nil, invalidArgument("x-amz-copy-source", header, message)
	}
	path, version, versioned := strings.Cut(header, "?versionId=")
	if versioned && version != "null" {
		return nil, notImplemented("a versionId other than null in x-amz-copy-source")
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	key, ok2 := sigv4.Unescape(key, true)
	if !ok { // the slash may be escaped as well
		var whole string
		whole, ok2 = sigv4.Unescape(bucket, true)
		bucket, key, ok = strings.Cut(strings.TrimPrefix(whole, "/"), "/")
	}
	if !ok2 {
		return malformed("Invalid copy source encoding")
	}
	if !ok || key == "" {
		return malformed("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	if strings.HasPrefix(bucket, "arn:") {
		return nil, notImplemented("an access point in x-amz-copy-source")
	}
	if err := checkBucketName(bucket); err != nil {
		return malformed("Invalid copy source bucket name")
	}
	if err := checkObjectKey(key); err != nil {
		return nil, err
	}
	if _, err := q.ownBucket(bucket, q.r.Header.Get("X-Amz-Source-Expected-Bucket-Owner")); err != nil {
		return nil, err
	}
	o, err := q.g.Backend.Open(q.r.Context(), bucket, key)
	if err != nil {
		if e := asError(err); e.Code == "NoSuchKey" {
			return nil, missing(key)
		}
		return nil, err
	}
	src := &source{o, bucket, key}
	if err := q.readCheck(o.Info(), "X-Amz-Copy-Source-"); err != nil {
		src.Close()
		return nil, err
	}
	return src, nil
}

// copyObject makes an object of another's bytes.
func (q *request) copyObject() error {
	check, err := q.writeCheck()
	if err != nil {
		return err
	}
	src, err := q.openSource()
	if err != nil {
		return err
	}
	defer src.Close()
	info := src.Info()
	in := CopyInput{Owner: q.who.User, Check: check}
	meta, err := q.metadata() // checked even where it is not used
	if err != nil {
		return err
	}
	if q.r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE" {
		in.Metadata = &meta
	}
	algorithm := q.r.Header.Get("X-Amz-Checksum-Algorithm")
	switch {
	case src.bucket == q.bucket && src.key == q.key && in.Metadata == nil && algorithm == "" &&
		q.r.Header.Get("X-Amz-Website-Redirect-Location") == "" && q.r.Header.Get("X-Amz-Server-Side-Encryption") == "" &&
		q.r.Header.Get("X-Amz-Storage-Class") == "":
		return refusef("InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	case info.Size > maxObject:
		return refusef("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxObject))
	}
	if redirect := q.r.Header.Get("X-Amz-Website-Redirect-Location"); in.Metadata == nil && redirect != info.Metadata.WebsiteRedirect {
		meta := info.Metadata // S3 copies all metadata but this
		meta.WebsiteRedirect = redirect
		in.Metadata = &meta
	}
	if algorithm != "" {
		if in.Digest, err = copyDigest(algorithm, info); err != nil {
			return err
		}
	}
	q.w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
	return q.slowly(func(ctx context.Context) (any, error) {
		o, err := q.g.Backend.Copy(ctx, src.OpenObject, q.bucket, q.key, in)
		if err != nil {
			return nil, err
		}
		doc := s3xml.CopyObjectResult{LastModified: s3xml.Time(o.Modified), ETag: quote(o.ETag), Checksums: checksums(o.Checksums)}
		if len(o.Checksums) > 0 {
			doc.ChecksumType = o.Checksums[0].Type
		}
		return doc, nil
	})
}

// copyDigest returns what computes a checksum that the source does not have, nil if it has it.
func copyDigest(algorithm string, info Object) (Digest, error) {
	a := checksum.ByName(algorithm)
	if a == nil {
		return nil, invalidAlgorithm()
	}
	for _, c := range info.Checksums {
		if c.Algorithm == a.Name && c.Type == checksum.FullObject {
			return nil, nil
		}
	}
	return plainDigest(a), nil
}

func invalidAlgorithm() *Error {
	return refusef("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, SHA1, SHA256, CRC64NVME]")
}

// uploadPartCopy makes a part of an object's bytes.
func (q *request) uploadPartCopy() error {
	number, err := q.partNumber()
	if err != nil {
		return err
	}
	src, err := q.openSource()
	if err != nil {
		return err
	}
	defer src.Close()
	size := src.Info().Size
	span := byteRange{0, size}
	if value, ok := q.r.Header["X-Amz-Copy-Source-Range"]; ok {
		if span, err = copyRange(value[0], size); err != nil {
			return err
		}
	}
	if span.n > maxObject {
		return refusef("InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxObject))
	}
	id := q.query.Get("uploadId")
	q.w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
	return q.slowly(func(ctx context.Context) (any, error) {
		p, err := q.g.Backend.CopyPart(ctx, src.OpenObject, span.off, span.n, q.bucket, q.key, id, number)
		if err != nil {
			return nil, err
		}
		return s3xml.CopyPartResult{LastModified: s3xml.Time(p.Modified), ETag: quote(p.ETag), Checksums: checksums(p.Checksums)}, nil
	})
}

// copyRange reads bytes=first-last, both given and within the source: stricter than Range.
func copyRange(value string, size int64) (byteRange, error) {
	malformed := invalidArgument("x-amz-copy-source-range", value,
		"The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	spec, ok := strings.CutPrefix(value, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	off, ok1 := parseOffset(first)
	end, ok2 := parseOffset(last)
	if !ok || !dash || !ok1 || !ok2 || end < off {
		return byteRange{}, malformed
	}
	if end >= size {
		return byteRange{}, invalidArgument("x-amz-copy-source-range", value, "Range specified is not valid for source object of size: "+itoa(size))
	}
	return byteRange{off, end - off + 1}, nil
}

// slowly runs work and answers with the document it returns. If it takes longer than Config.KeepAlive the header of a 200 goes
// out, then blanks, so that neither client nor proxy gives up; an error is then told inside the 200, as S3 does. work runs on
// a goroutine of its own, which has ended when slowly returns.
func (q *request) slowly(work func(context.Context) (any, error)) error {
	type result struct {
		doc any
		err error
	}
	done := make(chan result, 1) // one send, by the goroutine below
	go func() {
		doc, err := work(q.r.Context())
		done <- result{doc, err}
	}()
	timer := time.NewTicker(q.g.KeepAlive)
	defer timer.Stop()
	var res result
	for begun := false; ; {
		select {
		case res = <-done:
		case <-timer.C:
			if !begun {
				q.w.Header().Set("Content-Type", "application/xml")
				q.w.WriteHeader(http.StatusOK)
				q.w.Write([]byte(s3xml.Header))
				begun = true
			}
			q.w.Write([]byte(" "))
			q.w.control.Flush()
			continue
		}
		switch {
		case res.err != nil && !begun:
			return res.err
		case !begun:
			return q.document(http.StatusOK, res.doc)
		case res.err != nil:
			q.told = res.err
			res.doc = q.errorDocument(asError(res.err))
		}
		b, err := s3xml.Marshal(res.doc)
		if err != nil {
			return err
		}
		q.w.Write(b[len(s3xml.Header):])
		return nil
	}
}
