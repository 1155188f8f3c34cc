package gateway

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"larder/auth/sigv4"
)

// maxKey bounds an object key, in bytes of UTF-8.
const maxKey = 1024

// authenticate proves who signed the request.
func (q *request) authenticate() error {
	if q.op.access == anybody {
		return nil
	}
	auth, err := sigv4.Parse(&q.raw, q.query)
	if err != nil {
		return err
	}
	if err := auth.CheckScope(q.g.Region, q.g.Now()); err != nil {
		return err
	}
	key, err := q.g.Keyring.Key(q.r.Context(), auth.AccessKey)
	if errors.Is(err, ErrNoSuchAccessKey) {
		return &Error{Code: "InvalidAccessKeyId", Facts: [][2]string{{"AWSAccessKeyId", auth.AccessKey}}, cause: err}
	}
	if err != nil {
		return fmt.Errorf("gateway: access key: %w", err)
	}
	signing := q.g.signing.key(auth.Scope, key.Secret)
	if err := auth.VerifyKey(&q.raw, signing); err != nil {
		return err
	}
	q.auth, q.who, q.signing = auth, key, signing
	return nil
}

// authorise checks the names, finds the bucket, and lets its owner and admins through.
func (q *request) authorise() error {
	if q.op.kind == onService {
		return nil
	}
	if err := checkBucketName(q.bucket); err != nil {
		return err
	}
	if err := checkObjectKey(q.key); err != nil {
		return err
	}
	if q.op.access != ownerOnly {
		return nil
	}
	var err error
	q.info, err = q.ownBucket(q.bucket, q.r.Header.Get("X-Amz-Expected-Bucket-Owner"))
	return err
}

// ownBucket returns a bucket that the user may do everything in. expected, if not "", must be its owner.
func (q *request) ownBucket(name, expected string) (Bucket, error) {
	b, err := q.g.Backend.Bucket(q.r.Context(), name)
	if err != nil {
		e := asError(err)
		if e.Code == "NoSuchBucket" {
			e = &Error{Code: e.Code, Facts: [][2]string{{"BucketName", name}}, cause: err}
		}
		return b, e
	}
	if !q.who.Admin && b.Owner != q.who.User || expected != "" && expected != b.Owner {
		return b, refuse("AccessDenied")
	}
	return b, nil
}

var (
	bucketName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	ipv4Address = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+$`)
)

// checkBucketName applies "General purpose bucket naming rules" of the S3 User Guide.
func checkBucketName(name string) error {
	bad := !bucketName.MatchString(name) || ipv4Address.MatchString(name) || strings.Contains(name, "..")
	for _, prefix := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		bad = bad || strings.HasPrefix(name, prefix)
	}
	for _, suffix := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		bad = bad || strings.HasSuffix(name, suffix)
	}
	if bad {
		return refuse("InvalidBucketName", [2]string{"BucketName", name})
	}
	return nil
}

// checkObjectKey accepts "" too: there may be no key in the request.
func checkObjectKey(key string) error {
	if len(key) > maxKey {
		return refuse("KeyTooLongError", [2]string{"Size", itoa(int64(len(key)))}, [2]string{"MaxSizeAllowed", itoa(maxKey)})
	}
	if !utf8.ValidString(key) {
		return refuse("InvalidURI")
	}
	return nil
}
