package gateway

import (
	"net/http"

	"larder/gateway/s3xml"
)

// absent answers the GET of a configuration that no bucket has.
func absent(code string) func(*request) error {
	return func(q *request) error { return refuse(code, [2]string{"BucketName", q.bucket}) }
}

// emptyDocument answers the GET of a feature that is off: a root element with nothing in it.
func emptyDocument(root string) func(*request) error {
	return func(q *request) error { return q.document(http.StatusOK, s3xml.NewEmpty(root)) }
}

func (q *request) getBucketACL() error { return q.acl(q.info.Owner) }

func (q *request) getObjectACL() error {
	if _, err := q.stat(); err != nil {
		return err
	}
	return q.acl(q.info.Owner) // BucketOwnerEnforced: every object is the bucket owner's
}

func (q *request) acl(user string) error {
	return q.document(http.StatusOK, s3xml.AccessControlPolicy{Owner: owner(user), Grants: []s3xml.Grant{s3xml.CanonicalUser(owner(user))}})
}

// getBucketEncryption tells the truth: every body is encrypted (design.md §4), which SSE-S3 calls AES256.
func (q *request) getBucketEncryption() error {
	return q.document(http.StatusOK, s3xml.ServerSideEncryptionConfiguration{SSEAlgorithm: "AES256"})
}

func (q *request) getBucketRequestPayment() error {
	return q.document(http.StatusOK, s3xml.RequestPaymentConfiguration{Payer: "BucketOwner"})
}

func (q *request) getObjectTagging() error {
	if _, err := q.stat(); err != nil {
		return err
	}
	return q.document(http.StatusOK, s3xml.Tagging{})
}

// stat returns what is known of the request's object.
func (q *request) stat() (Object, error) {
	o, err := q.open()
	if err != nil {
		return Object{}, err
	}
	defer o.Close()
	return o.Info(), nil
}

// open opens the request's object.
func (q *request) open() (OpenObject, error) {
	o, err := q.g.Backend.Open(q.r.Context(), q.bucket, q.key)
	if err != nil {
		if e := asError(err); e.Code == "NoSuchKey" {
			return nil, &Error{Code: e.Code, Facts: [][2]string{{"Key", q.key}}, cause: err}
		}
		return nil, err
	}
	return o, nil
}
