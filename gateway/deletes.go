package gateway

import (
	"bytes"
	"net/http"
	"time"

	"larder/gateway/s3xml"
)

// maxDeletes is how many objects one DeleteObjects may name.
const maxDeletes = 1000

// deleteObjects deletes up to 1,000 objects, each on its own: some may fail.
func (q *request) deleteObjects() error {
	digest, err := q.newDigest("")
	if err != nil {
		return err
	}
	if !digest.claimed() {
		return refusef("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	body, err := q.readDocument(maxDocument)
	if err != nil {
		return err
	}
	var in s3xml.Delete
	if err := s3xml.Decode(bytes.NewReader(body), maxDocument, &in); err != nil {
		return err
	}
	if len(in.Objects) == 0 || len(in.Objects) > maxDeletes {
		return refuse("MalformedXML")
	}
	var out s3xml.DeleteResult
	for _, d := range in.Objects {
		if err := q.deleteOne(d); err != nil {
			e := asError(err)
			out.Errors = append(out.Errors, s3xml.DeleteError{Key: s3xml.Text(d.Key), VersionID: d.VersionID, Code: e.Code, Message: e.text()})
		} else if !in.Quiet {
			out.Deleted = append(out.Deleted, s3xml.Deleted{Key: s3xml.Text(d.Key), VersionID: d.VersionID})
		}
	}
	return q.document(http.StatusOK, out)
}

func (q *request) deleteOne(d s3xml.DeleteObject) error {
	switch {
	case d.Key == "":
		return refusef("InvalidArgument", "Object key is empty.")
	case d.VersionID != "" && d.VersionID != "null":
		return notImplemented("a VersionId other than null")
	}
	if err := checkObjectKey(d.Key); err != nil {
		return err
	}
	expected := expectation{etag: d.ETag, modified: (*time.Time)(d.LastModifiedTime), size: d.Size}
	return q.g.Backend.Delete(q.r.Context(), q.bucket, d.Key, expected.check(d.Key))
}
