package gateway

import (
	"bytes"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"larder/gateway/s3xml"
)

// regionName is the form of the names of regions.
var regionName = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]+$`)

func owner(user string) s3xml.Owner { return s3xml.Owner{ID: user, DisplayName: user} }

// listBuckets shows a user his own buckets, and an admin all.
func (q *request) listBuckets() error {
	prefix, after := q.query.Get("prefix"), ""
	limit, err := q.count("max-buckets", 10_000, 1)
	if err != nil {
		return err
	}
	if token, ok := q.query.Lookup("continuation-token"); ok {
		if after, ok = openToken(token); !ok {
			return invalidArgument("continuation-token", token, "The continuation token provided is incorrect")
		}
	}
	all, err := q.g.Backend.Buckets(q.r.Context())
	if err != nil {
		return err
	}
	doc := s3xml.ListAllMyBucketsResult{Owner: owner(q.who.User)}
	if p, ok := q.query.Lookup("prefix"); ok {
		doc.Prefix = (*s3xml.Text)(&p)
	}
	region, anyRegion := q.query.Get("bucket-region"), q.query.Get("bucket-region") == ""
	for _, b := range all {
		if !q.who.Admin && b.Owner != q.who.User || !strings.HasPrefix(b.Name, prefix) || b.Name <= after || !anyRegion && q.g.Region != region {
			continue
		}
		if len(doc.Buckets) == limit {
			doc.ContinuationToken = makeToken(doc.Buckets[limit-1].Name)
			break
		}
		doc.Buckets = append(doc.Buckets, s3xml.BucketEntry{Name: b.Name, CreationDate: s3xml.Time(b.Created), BucketRegion: q.g.Region})
	}
	return q.document(http.StatusOK, doc)
}

// createBucket makes a bucket. Creating one's own bucket again is 409 BucketAlreadyOwnedByYou, as in all regions of S3 but
// us-east-1, where history made it 200.
func (q *request) createBucket() error {
	body, err := q.readDocument(maxIgnored)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) > 0 {
		var doc s3xml.CreateBucketConfiguration
		if err := s3xml.Decode(bytes.NewReader(body), maxIgnored, &doc); err != nil {
			return err
		}
		if len(doc.Other) > 0 {
			return notImplemented("CreateBucketConfiguration/" + doc.Other[0].XMLName.Local)
		}
		if c := doc.LocationConstraint; c != "" && c != q.g.Region && !(c == "EU" && q.g.Region == "eu-west-1") {
			if !regionName.MatchString(c) {
				return refuse("InvalidLocationConstraint", [2]string{"LocationConstraint", c})
			}
			return &Error{Code: "IllegalLocationConstraintException", Message: "The " + printable(c) +
				" location constraint is incompatible for the region specific endpoint this request was sent to."}
		}
	}
	b, err := q.g.Backend.CreateBucket(q.r.Context(), Bucket{Name: q.bucket, Region: q.g.Region, Owner: q.who.User, Created: q.g.Now()})
	if errors.Is(err, ErrBucketExists) {
		code := "BucketAlreadyExists"
		if b.Owner == q.who.User {
			code = "BucketAlreadyOwnedByYou"
		}
		return &Error{Code: code, Facts: [][2]string{{"BucketName", q.bucket}}, cause: err}
	}
	if err != nil {
		return err
	}
	q.w.Header().Set("Location", "/"+q.bucket)
	q.w.Header().Set("X-Amz-Bucket-Arn", "arn:aws:s3:::"+q.bucket)
	return q.empty(http.StatusOK)
}

func (q *request) deleteBucket() error {
	if err := q.g.Backend.DeleteBucket(q.r.Context(), q.bucket); err != nil {
		return err
	}
	return q.empty(http.StatusNoContent)
}

func (q *request) headBucket() error {
	q.w.Header().Set("X-Amz-Bucket-Region", q.g.Region)
	q.w.Header().Set("X-Amz-Access-Point-Alias", "false")
	q.w.Header().Set("Content-Type", "application/xml")
	return q.empty(http.StatusOK)
}

// getBucketLocation answers with an empty element for us-east-1, as S3 does.
func (q *request) getBucketLocation() error {
	region := q.g.Region
	if region == "us-east-1" {
		region = ""
	}
	return q.document(http.StatusOK, s3xml.LocationConstraint{Region: region})
}
