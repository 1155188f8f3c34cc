package gateway

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"larder/auth/sigv4"
	"larder/gateway/s3xml"
)

// maxPage is the most entries that one page of a listing has.
const maxPage = 1000

// count reads a query parameter that is a number of at least low; numbers above high count as high, and none at all as well.
func (q *request) count(name string, high, low int) (int, error) {
	value, ok := q.query.Lookup(name)
	if !ok || value == "" {
		return high, nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	switch {
	case err != nil:
		return 0, invalidArgument(name, value, "Provided "+name+" not an integer or within integer range")
	case n < int64(low):
		return 0, invalidArgument(name, value, "Argument "+name+" must be an integer between "+strconv.Itoa(low)+" and 2147483647")
	}
	return min(int(n), high), nil
}

// encoder returns how names are written in a listing: as they are, or percent-encoded if the client asked for that.
func (q *request) encoder() (encoding string, encode func(string) s3xml.Text, err error) {
	value, ok := q.query.Lookup("encoding-type")
	switch {
	case !ok || value == "":
		return "", func(s string) s3xml.Text { return s3xml.Text(s) }, nil
	case value == "url":
		return value, func(s string) s3xml.Text { return s3xml.Text(sigv4.Escape(s, true)) }, nil
	}
	return "", nil, invalidArgument("encoding-type", value, "Invalid Encoding Method specified in Request")
}

// makeToken hides where a listing goes on. Clients must take it as opaque.
func makeToken(after string) string { return base64.URLEncoding.EncodeToString([]byte("1" + after)) }

// openToken undoes makeToken.
func openToken(token string) (after string, ok bool) {
	b, err := base64.URLEncoding.DecodeString(token)
	if err != nil || len(b) < 2 || b[0] != '1' {
		return "", false
	}
	return string(b[1:]), true
}

// listing is what both versions of ListObjects share.
type listing struct {
	query    ListQuery
	encoding string
	encode   func(string) s3xml.Text
	page     ListPage
}

// list reads the common parameters and fetches the page after after.
func (q *request) list(after string) (*listing, error) {
	limit, err := q.count("max-keys", maxPage, 0)
	if err != nil {
		return nil, err
	}
	l := &listing{query: ListQuery{Prefix: q.query.Get("prefix"), Delimiter: q.query.Get("delimiter"), After: after, Max: limit}}
	if l.encoding, l.encode, err = q.encoder(); err != nil {
		return nil, err
	}
	if limit > 0 {
		l.page, err = q.g.Backend.List(q.r.Context(), q.bucket, l.query)
	}
	return l, err
}

func (l *listing) prefixes() []s3xml.CommonPrefix {
	out := make([]s3xml.CommonPrefix, len(l.page.CommonPrefixes))
	for i, p := range l.page.CommonPrefixes {
		out[i].Prefix = l.encode(p)
	}
	return out
}

func (l *listing) contents(withOwner string) s3xml.Contents {
	out := make([]s3xml.ObjectEntry, len(l.page.Objects))
	for i, o := range l.page.Objects {
		e := s3xml.ObjectEntry{Key: l.encode(o.Key), LastModified: s3xml.Time(o.Modified), ETag: quote(o.ETag), Size: o.Size, StorageClass: storageClass(o.Metadata)}
		for _, c := range o.Checksums {
			e.ChecksumAlgorithm = append(e.ChecksumAlgorithm, c.Algorithm)
			e.ChecksumType = c.Type
		}
		if withOwner != "" {
			u := owner(withOwner)
			e.Owner = &u
		}
		out[i] = e
	}
	return s3xml.NewContents(out)
}

// listObjects is version 1: it goes on after a key that the client names. NextMarker is told only with a delimiter; without
// one the last key serves.
func (q *request) listObjects() error {
	marker := q.query.Get("marker")
	l, err := q.list(marker)
	if err != nil {
		return err
	}
	doc := s3xml.ListBucketResult{Name: q.bucket, Prefix: l.encode(l.query.Prefix), Marker: l.encode(marker), MaxKeys: l.query.Max,
		Delimiter: l.encode(l.query.Delimiter), EncodingType: l.encoding, IsTruncated: l.page.Truncated,
		Contents: l.contents(q.info.Owner), CommonPrefixes: l.prefixes()}
	if l.page.Truncated && l.query.Delimiter != "" {
		doc.NextMarker = l.encode(l.page.Next)
	}
	return q.document(http.StatusOK, doc)
}

func (q *request) listObjectsV2() error {
	startAfter := q.query.Get("start-after")
	after := startAfter
	token, resumed := q.query.Lookup("continuation-token")
	if resumed {
		var ok bool
		if after, ok = openToken(token); !ok {
			return invalidArgument("continuation-token", token, "The continuation token provided is incorrect")
		}
	}
	withOwner := ""
	if strings.EqualFold(q.query.Get("fetch-owner"), "true") {
		withOwner = q.info.Owner
	}
	l, err := q.list(after)
	if err != nil {
		return err
	}
	doc := s3xml.ListBucketResultV2{Name: q.bucket, Prefix: l.encode(l.query.Prefix), StartAfter: l.encode(startAfter), ContinuationToken: token,
		KeyCount: len(l.page.Objects) + len(l.page.CommonPrefixes), MaxKeys: l.query.Max, Delimiter: l.encode(l.query.Delimiter),
		EncodingType: l.encoding, IsTruncated: l.page.Truncated, Contents: l.contents(withOwner), CommonPrefixes: l.prefixes()}
	if l.page.Truncated {
		doc.NextContinuationToken = makeToken(l.page.Next)
	}
	return q.document(http.StatusOK, doc)
}
