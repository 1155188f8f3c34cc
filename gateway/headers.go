package gateway

import (
	"net/http"
	"slices"
	"strings"

	"larder/gateway/checksum"
)

// maxUserMetadata bounds the names and values of x-amz-meta- headers together, in bytes.
const maxUserMetadata = 2048

// everyHeader lists the x-amz- headers that any operation may carry because they are read where they matter and say nothing
// where they do not.
var everyHeader = []string{
	"x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent", "x-amz-decoded-content-length", "x-amz-trailer",
	"x-amz-sdk-checksum-algorithm", "x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-checksum-mode",
	"x-amz-expected-bucket-owner", "x-amz-request-payer", "x-amz-optional-object-attributes", "x-amz-bypass-governance-retention",
	"x-amz-website-redirect-location",
}

// limitedHeaders are the x-amz- headers of which only values that change nothing are taken. All others are refused with 501.
var limitedHeaders = map[string][]string{
	"x-amz-acl":                    {"private", "bucket-owner-full-control", "bucket-owner-read"},
	"x-amz-server-side-encryption": {"AES256"}, // bodies are always encrypted
	"x-amz-server-side-encryption-bucket-key-enabled": {"false"},
	"x-amz-storage-class":                             {"STANDARD"},
	"x-amz-tagging":                                   {""},
	"x-amz-bucket-object-lock-enabled":                {"false"},
	"x-amz-object-ownership":                          {"BucketOwnerEnforced"},
	"x-amz-metadata-directive":                        {"COPY", "REPLACE"},
	"x-amz-tagging-directive":                         {"COPY", "REPLACE"},
}

// storageClasses are the classes that S3 knows; of them, only STANDARD is kept here.
var storageClasses = []string{"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE",
	"OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE", "FSX_OPENZFS", "FSX_ONTAP"}

// conditionHeaders are those that make an operation conditional.
var conditionHeaders = []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"}

// headers refuses every header whose meaning the operation would not honour. Before that it puts the headers that a presigned
// request carries in its query among the others.
func (q *request) headers() error {
	q.promote()
	for name, values := range q.r.Header {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-amz-") {
			continue
		}
		if err := q.checkHeader(lower, values); err != nil {
			return err
		}
	}
	for _, name := range conditionHeaders {
		if _, ok := q.r.Header[name]; !ok || slices.Contains(q.op.headers, strings.ToLower(name)) {
			continue
		}
		// A read that ignores these two gives what an unconditional one gives, which RFC 9110 §13 allows.
		if !isWrite(q.r.Method) && (name == "If-None-Match" || name == "If-Modified-Since") {
			continue
		}
		return headerRefused(name, q.r.Header.Get(name))
	}
	if len(q.r.Header.Values("X-Amz-Security-Token")) > 0 || q.query.Get("X-Amz-Security-Token") != "" {
		return refuse("InvalidToken")
	}
	return nil
}

// promote copies x-amz- query keys of a presigned request into a copy of the header. The signature still covers what came.
func (q *request) promote() {
	if _, presigned := q.query.Lookup("X-Amz-Signature"); !presigned {
		return
	}
	cloned := false
	for _, p := range q.query {
		name := http.CanonicalHeaderKey(p.Name)
		if _, ok := q.r.Header[name]; ok || !isHeaderParam(p.Name) {
			continue
		}
		if !cloned {
			q.r, cloned = q.r.Clone(q.r.Context()), true
		}
		q.r.Header.Set(name, p.Value)
	}
}

func (q *request) checkHeader(lower string, values []string) error {
	value := values[0]
	switch {
	case strings.HasPrefix(lower, "x-amz-meta-"), checksum.ByHeader(lower) != nil, slices.Contains(everyHeader, lower):
		return nil
	case lower == "x-amz-storage-class" && !slices.Contains(storageClasses, value):
		return refuse("InvalidStorageClass", [2]string{"StorageClassRequested", value})
	}
	if allowed, ok := limitedHeaders[lower]; ok {
		if slices.Contains(allowed, value) {
			return nil
		}
		if lower == "x-amz-metadata-directive" || lower == "x-amz-tagging-directive" {
			return invalidArgument(lower, value, "Unknown "+strings.ReplaceAll(strings.TrimPrefix(lower, "x-amz-"), "-", " ")+".")
		}
		return headerRefused(lower, value)
	}
	if slices.Contains(q.op.headers, lower) {
		return nil
	}
	return headerRefused(lower, value)
}

func headerRefused(name, value string) *Error {
	return &Error{Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented: " + strings.ToLower(name),
		Facts: [][2]string{{"Header", name}, {"Value", value}}}
}

// metadata returns what the request's headers say of its object.
func (q *request) metadata() (Metadata, error) {
	h := q.r.Header
	m := Metadata{
		ContentType:        h.Get("Content-Type"),
		ContentEncoding:    withoutChunked(h.Get("Content-Encoding")),
		ContentDisposition: h.Get("Content-Disposition"),
		ContentLanguage:    h.Get("Content-Language"),
		CacheControl:       h.Get("Cache-Control"),
		Expires:            h.Get("Expires"),
		WebsiteRedirect:    h.Get("X-Amz-Website-Redirect-Location"),
	}
	if r := m.WebsiteRedirect; r != "" && !strings.HasPrefix(r, "/") && !strings.HasPrefix(r, "http://") && !strings.HasPrefix(r, "https://") {
		return m, refuse("InvalidRedirectLocation")
	}
	size := 0
	for name, values := range h {
		user, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-meta-")
		if !ok {
			continue
		}
		if m.User == nil {
			m.User = map[string]string{}
		}
		m.User[user] = strings.Join(values, ",")
		size += len(user) + len(m.User[user])
	}
	if size > maxUserMetadata {
		return m, refuse("MetadataTooLarge", [2]string{"Size", itoa(int64(size))}, [2]string{"MaxSizeAllowed", itoa(maxUserMetadata)})
	}
	return m, nil
}

// withoutChunked removes aws-chunked from a Content-Encoding: it is the form of the transfer, not of the object.
func withoutChunked(encoding string) string {
	if !strings.Contains(encoding, "aws-chunked") {
		return encoding
	}
	var keep []string
	for e := range strings.SplitSeq(encoding, ",") {
		if e = strings.TrimSpace(e); e != "aws-chunked" && e != "" {
			keep = append(keep, e)
		}
	}
	return strings.Join(keep, ",")
}

// setObjectHeaders tells of an object in the header of an answer to GET and HEAD.
func (q *request) setObjectHeaders(o Object) {
	h := q.w.Header()
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	m := o.Metadata
	set("Content-Type", m.ContentType)
	if m.ContentType == "" {
		h.Set("Content-Type", "binary/octet-stream")
	}
	set("Content-Encoding", m.ContentEncoding)
	set("Content-Disposition", m.ContentDisposition)
	set("Content-Language", m.ContentLanguage)
	set("Cache-Control", m.CacheControl)
	set("Expires", m.Expires)
	set("X-Amz-Website-Redirect-Location", m.WebsiteRedirect)
	for name, value := range m.User {
		h["x-amz-meta-"+name] = []string{value} // as S3 writes it: boto3 shows its users the name as it came
	}
	h.Set("ETag", quote(o.ETag))
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
}

// setChecksums tells of checksums in the header of an answer.
func (q *request) setChecksums(sums []Checksum) {
	for _, c := range sums {
		if a := checksum.ByName(c.Algorithm); a != nil {
			q.w.Header().Set(a.Header(), c.Value)
			if c.Type != "" {
				q.w.Header().Set("X-Amz-Checksum-Type", c.Type)
			}
		}
	}
}

func quote(etag string) string { return `"` + etag + `"` }

func unquote(etag string) string {
	etag = strings.TrimSpace(etag)
	if len(etag) >= 2 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}
