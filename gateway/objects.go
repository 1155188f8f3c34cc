package gateway

import (
	"net/http"
	"strconv"
	"strings"

	"larder/gateway/checksum"
	"larder/gateway/s3xml"
)

// putObject stores the body under the key.
func (q *request) putObject() error {
	meta, err := q.metadata()
	if err != nil {
		return err
	}
	check, err := q.writeCheck()
	if err != nil {
		return err
	}
	digest, err := q.newDigest("")
	if err != nil {
		return err
	}
	o, err := q.g.Backend.Put(q.r.Context(), q.bucket, q.key, PutInput{Body: q.body, Size: q.body.size, Digest: digest,
		Metadata: meta, Owner: q.who.User, Check: check})
	if err != nil {
		return err
	}
	q.w.Header().Set("ETag", quote(o.ETag))
	q.w.Header().Set("X-Amz-Server-Side-Encryption", "AES256")
	q.setChecksums(o.Checksums)
	return q.empty(http.StatusOK)
}

// getObject answers GET and HEAD: the object, a range of it, or one part.
func (q *request) getObject() error {
	if number, ok := q.query.Lookup("partNumber"); ok {
		if _, err := parsePartNumber(number); err != nil {
			return err
		}
	}
	src, err := q.open()
	if err != nil {
		return err
	}
	defer src.Close()
	o := src.Info()
	if err := q.readCheck(o, ""); err != nil {
		return err
	}
	q.setObjectHeaders(o)
	span, status, sums, err := q.span(src, o)
	if err != nil {
		return err
	}
	h := q.w.Header()
	if status == http.StatusPartialContent {
		if span.n > 0 {
			h.Set("Content-Range", span.header(o.Size))
		} else {
			status = http.StatusOK // an empty part has no range
		}
	}
	if strings.EqualFold(q.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		q.setChecksums(sums)
	}
	for _, name := range overrides {
		if v, ok := q.query.Lookup(name); ok {
			h.Set(strings.TrimPrefix(name, "response-"), v)
		}
	}
	h.Set("Content-Length", itoa(span.n))
	if q.w.head || span.n == 0 {
		q.w.WriteHeader(status)
		return nil
	}
	// The header goes out with the first byte, so that an object that cannot be read at all gets a proper error.
	return src.WriteRange(q.r.Context(), &answer{q.w, status}, span.off, span.n)
}

// answer writes the status before the first byte.
type answer struct {
	w      *reply
	status int
}

func (a *answer) Write(p []byte) (int, error) {
	a.w.WriteHeader(a.status)
	return a.w.Write(p)
}

// span returns what of an object the request asks for, with which status, and the checksums of just that.
func (q *request) span(src OpenObject, o Object) (byteRange, int, []Checksum, error) {
	whole := byteRange{0, o.Size}
	value, ranged := q.r.Header["Range"]
	number, byPart := q.query.Lookup("partNumber")
	switch {
	case ranged && byPart:
		return whole, 0, nil, refusef("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
	case byPart:
		return q.partSpan(src, o, number)
	case !ranged:
		return whole, http.StatusOK, o.Checksums, nil
	}
	r, found, err := parseRange(value[0], o.Size)
	if err != nil || !found {
		return whole, http.StatusOK, o.Checksums, err
	}
	if r == whole {
		return r, http.StatusPartialContent, o.Checksums, nil
	}
	return r, http.StatusPartialContent, nil, nil
}

func (q *request) partSpan(src OpenObject, o Object, number string) (byteRange, int, []Checksum, error) {
	n, err := parsePartNumber(number)
	if err != nil {
		return byteRange{}, 0, nil, err
	}
	if o.PartsCount == 0 && n == 1 {
		return byteRange{0, o.Size}, http.StatusPartialContent, o.Checksums, nil
	}
	p, off, ok := src.Part(n)
	if !ok {
		return byteRange{}, 0, nil, refuse("InvalidPartNumber", [2]string{"ActualPartCount", itoa(int64(o.PartsCount))}, [2]string{"PartNumberRequested", number})
	}
	q.w.Header().Set("X-Amz-Mp-Parts-Count", itoa(int64(o.PartsCount)))
	sums := append([]Checksum(nil), p.Checksums...)
	for i := range sums {
		if len(o.Checksums) > 0 {
			sums[i].Type = o.Checksums[0].Type
		}
	}
	return byteRange{off, p.Size}, http.StatusPartialContent, sums, nil
}

func (q *request) deleteObject() error {
	expected, err := q.deleteExpectation()
	if err != nil {
		return err
	}
	if err := q.g.Backend.Delete(q.r.Context(), q.bucket, q.key, expected.check(q.key)); err != nil {
		return err
	}
	return q.empty(http.StatusNoContent)
}

// getObjectAttributes answers with those attributes that were asked for.
func (q *request) getObjectAttributes() error {
	wanted := map[string]bool{}
	for _, value := range q.r.Header.Values("X-Amz-Object-Attributes") {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			switch name {
			case "ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize":
				wanted[name] = true
			default:
				return invalidArgument("x-amz-object-attributes", name, "Invalid attribute name specified.")
			}
		}
	}
	if len(wanted) == 0 {
		return refusef("InvalidRequest", "The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")
	}
	src, err := q.open()
	if err != nil {
		return err
	}
	defer src.Close()
	o := src.Info()
	var doc s3xml.GetObjectAttributesResponse
	if wanted["ETag"] {
		doc.ETag = o.ETag
	}
	if wanted["Checksum"] && len(o.Checksums) > 0 {
		doc.Checksum = &s3xml.Checksum{Checksums: checksums(o.Checksums), ChecksumType: o.Checksums[0].Type}
	}
	if wanted["StorageClass"] {
		doc.StorageClass = storageClass(o.Metadata)
	}
	if wanted["ObjectSize"] {
		doc.ObjectSize = &o.Size
	}
	if wanted["ObjectParts"] && o.PartsCount > 0 {
		if doc.ObjectParts, err = q.objectParts(src, o); err != nil {
			return err
		}
	}
	q.w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	return q.document(http.StatusOK, doc)
}

func (q *request) objectParts(src OpenObject, o Object) (*s3xml.ObjectParts, error) {
	limit, err := headerCount(q.r, "X-Amz-Max-Parts", 1000)
	if err != nil {
		return nil, err
	}
	after, err := headerCount(q.r, "X-Amz-Part-Number-Marker", 0)
	if err != nil {
		return nil, err
	}
	out := &s3xml.ObjectParts{PartsCount: o.PartsCount, PartNumberMarker: after, MaxParts: min(limit, 1000)}
	for n := after + 1; n <= o.PartsCount; n++ {
		p, _, ok := src.Part(n)
		if !ok {
			break
		}
		if len(out.Parts) == out.MaxParts {
			out.IsTruncated = true
			break
		}
		out.Parts = append(out.Parts, s3xml.ObjectPart{PartNumber: n, Size: p.Size, Checksums: checksums(p.Checksums)})
		out.NextPartNumberMarker = n
	}
	return out, nil
}

func headerCount(r *http.Request, name string, fallback int) (int, error) {
	value := r.Header.Get(name)
	if value == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, invalidArgument(strings.ToLower(name), value, "Provided "+strings.ToLower(name)+" not an integer or within integer range")
	}
	return n, nil
}

// checksums puts checksums where documents have them.
func checksums(sums []Checksum) s3xml.Checksums {
	var out s3xml.Checksums
	for _, c := range sums {
		if f := out.Field(c.Algorithm); f != nil {
			*f = c.Value
		}
	}
	return out
}

// claimedChecksums returns the checksums that an element of a document names.
func claimedChecksums(c s3xml.Checksums) []Checksum {
	var out []Checksum
	for _, a := range checksum.Algorithms {
		if f := c.Field(a.Name); f != nil && *f != "" {
			out = append(out, Checksum{Algorithm: a.Name, Value: *f})
		}
	}
	return out
}

func storageClass(m Metadata) string {
	if m.StorageClass == "" {
		return "STANDARD"
	}
	return m.StorageClass
}
