package gateway_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"larder/gateway"
)

// TestNotHonoured asks for things that the front does not do. The answer names them, and nothing happens.
func TestNotHonoured(t *testing.T) {
	f := bucketFront(t, nil)
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/old", []byte("old"), nil), 200, "")
	for _, c := range []struct{ method, target, names string }{
		{"PUT", "/bkt/old?tagging", "PutObjectTagging"},
		{"PUT", "/bkt/old?acl", "PutObjectAcl"},
		{"PUT", "/bkt/old?retention", "PutObjectRetention"},
		{"PUT", "/bkt/old?legal-hold", "PutObjectLegalHold"},
		{"PUT", "/bkt/old?unheard-of", "unheard-of"},
		{"PUT", "/bkt/old?versionId=3", "versionId"},
		{"PUT", "/bkt/old?partNumber=1", "partNumber"},
		{"PUT", "/bkt/old?renameObject", "RenameObject"},
		{"DELETE", "/bkt/old?tagging", "DeleteObjectTagging"},
		{"DELETE", "/bkt/old?versionId=abc", "versionId"},
		{"DELETE", "/bkt/old?x", "parameter x"},
		{"GET", "/bkt/old?torrent", "GetObjectTorrent"},
		{"GET", "/bkt/old?versionId=abc", "versionId"},
		{"GET", "/bkt/old?acl&tagging", "tagging"},
		{"POST", "/bkt/old?select&select-type=2", "SelectObjectContent"},
		{"POST", "/bkt/old?restore", "RestoreObject"},
		{"DELETE", "/bkt?policy", "DeleteBucketPolicy"},
		{"DELETE", "/bkt?cors", "DeleteBucketCors"},
		{"DELETE", "/bkt?unheard-of", "unheard-of"},
		{"PUT", "/bkt?versioning", "PutBucketVersioning"},
		{"PUT", "/bkt?policy", "PutBucketPolicy"},
		{"PUT", "/bkt?lifecycle", "PutBucketLifecycleConfiguration"},
		{"GET", "/bkt?versions", "ListObjectVersions"},
		{"GET", "/bkt?list-type=3", "list-type"},
		{"GET", "/bkt?prefix=a&prefix=b", "prefix"},
		{"GET", "/bkt?unheard-of", "unheard-of"},
		{"POST", "/bkt", "PostObject"},
		{"GET", "/?unheard-of", "unheard-of"},
	} {
		body := f.wantAnswer(t, f.signed(t, c.method, c.target, nil, nil), 501, "NotImplemented")
		if !strings.Contains(string(body), c.names) {
			t.Errorf("%s %s: the answer does not name %s: %s", c.method, c.target, c.names, body)
		}
	}
	for header, value := range map[string]string{
		"x-amz-tagging": "a=b", "x-amz-acl": "public-read", "x-amz-grant-read": "id=x", "x-amz-server-side-encryption": "aws:kms",
		"x-amz-server-side-encryption-customer-algorithm": "AES256", "x-amz-server-side-encryption-aws-kms-key-id": "k",
		"x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-legal-hold": "ON", "x-amz-storage-class": "GLACIER",
		"x-amz-unheard-of": "1", "x-amz-write-offset-bytes": "3", "If-Modified-Since": "Tue, 01 Jan 2030 00:00:00 GMT", "If-None-Match": `"etag"`,
		"x-amz-copy-source-range": "bytes=0-1", "x-amz-mp-object-size": "3",
	} {
		body := f.wantAnswer(t, f.signed(t, "PUT", "/bkt/new", []byte("new"), map[string]string{header: value}), 501, "NotImplemented")
		if !strings.Contains(strings.ToLower(string(body)), strings.ToLower(header)) {
			t.Errorf("%s: the answer does not name it: %s", header, body)
		}
	}
	// Conditions where an operation has none.
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/new?uploads", nil, map[string]string{"If-None-Match": "*"}), 501, "NotImplemented")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/new?partNumber=1&uploadId=x", nil, map[string]string{"If-Match": "x"}), 501, "NotImplemented")
	f.wantAnswer(t, f.signed(t, "DELETE", "/bkt/old", nil, map[string]string{"If-None-Match": "*"}), 501, "NotImplemented")
	f.wantAnswer(t, f.signed(t, "DELETE", "/bkt", nil, map[string]string{"If-Match": "*"}), 501, "NotImplemented")
	f.wantAnswer(t, f.signed(t, "GET", "/bkt", nil, map[string]string{"If-Match": "x"}), 501, "NotImplemented")
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/new", nil, map[string]string{"x-amz-storage-class": "NONSENSE"}), 400, "InvalidStorageClass")
	f.wantAnswer(t, f.signed(t, "POST", "/bkt/old", nil, nil), 405, "MethodNotAllowed")
	f.wantAnswer(t, f.signed(t, "PATCH", "/bkt/old", nil, nil), 405, "MethodNotAllowed")
	f.wantKeys(t, "old")
	// Values that change nothing are taken.
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/new?x-id=PutObject", []byte("new"), map[string]string{"x-amz-acl": "private", "x-amz-storage-class": "STANDARD",
		"x-amz-server-side-encryption": "AES256", "x-amz-tagging": ""}), 200, "")
	f.wantKeys(t, "new", "old")
}

// TestSubresources reads what clients ask of a bucket before anything else.
func TestSubresources(t *testing.T) {
	f := bucketFront(t, nil)
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", []byte("x"), nil), 200, "")
	for target, want := range map[string]string{
		"/bkt?versioning": "<VersioningConfiguration ", "/bkt?location": "<LocationConstraint ", "/bkt?acl": "FULL_CONTROL", "/bkt/k?acl": "<ID>alice</ID>",
		"/bkt?logging": "<BucketLoggingStatus ", "/bkt?notification": "<NotificationConfiguration ", "/bkt?accelerate": "<AccelerateConfiguration ",
		"/bkt?requestPayment": "BucketOwner", "/bkt?encryption": "AES256", "/bkt/k?tagging": "<TagSet></TagSet>",
	} {
		if body := f.wantAnswer(t, f.signed(t, "GET", target, nil, nil), 200, ""); !bytes.Contains(body, []byte(want)) {
			t.Errorf("%s lacks %s: %s", target, want, body)
		}
	}
	for target, code := range map[string]string{
		"/bkt?policy": "NoSuchBucketPolicy", "/bkt?lifecycle": "NoSuchLifecycleConfiguration", "/bkt?cors": "NoSuchCORSConfiguration", "/bkt?tagging": "NoSuchTagSet",
		"/bkt?object-lock": "ObjectLockConfigurationNotFoundError", "/bkt?website": "NoSuchWebsiteConfiguration", "/bkt?replication": "ReplicationConfigurationNotFoundError",
		"/bkt?publicAccessBlock": "NoSuchPublicAccessBlockConfiguration", "/bkt?ownershipControls": "OwnershipControlsNotFoundError", "/bkt/no?acl": "NoSuchKey",
		"/bkt/no?tagging": "NoSuchKey", "/nowhere?policy": "NoSuchBucket",
	} {
		f.wantAnswer(t, f.signed(t, "GET", target, nil, nil), 404, code)
	}
}

func TestPreflight(t *testing.T) {
	f := bucketFront(t, nil)
	ask := func(target string, header map[string]string) *http.Request {
		r := must(http.NewRequest("OPTIONS", f.URL+target, nil))
		for name, value := range header {
			r.Header.Set(name, value)
		}
		return r
	}
	full := map[string]string{"Origin": "http://example.com", "Access-Control-Request-Method": "PUT"}
	f.wantAnswer(t, ask("/bkt/k", full), 403, "AccessForbidden")
	f.wantAnswer(t, ask("/bkt", full), 403, "AccessForbidden")
	f.wantAnswer(t, ask("/nowhere/k", full), 404, "NoSuchBucket")
	f.wantAnswer(t, ask("/bkt/k", nil), 400, "BadRequest")
	f.wantAnswer(t, ask("/bkt/k", map[string]string{"Origin": "http://example.com"}), 400, "BadRequest")
	r := f.signed(t, "PUT", "/bkt/k", []byte("x"), map[string]string{"Origin": "http://example.com"})
	if _, _, _, h := f.do(t, r); h.Get("Access-Control-Allow-Origin") != "" {
		t.Error("an answer allows an origin that nobody configured")
	}
}

// TestOwnership has two users and an admin at each other's buckets.
func TestOwnership(t *testing.T) {
	f := bucketFront(t, nil)
	as := func(key, secret, method, target string, header map[string]string) *http.Request {
		return signedAs(t, key, secret, testNow(), method, f.URL+target, nil, header)
	}
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/k", []byte("secret"), nil), 200, "")
	for _, target := range []string{"/bkt", "/bkt/k", "/bkt?acl", "/bkt/k?acl", "/bkt?uploads"} {
		f.wantAnswer(t, as(bobKey, bobSecret, "GET", target, nil), 403, "AccessDenied")
		f.wantAnswer(t, as(adminKey, adminSecret, "GET", target, nil), 200, "")
	}
	for _, method := range []string{"PUT", "DELETE"} {
		f.wantAnswer(t, as(bobKey, bobSecret, method, "/bkt/k", nil), 403, "AccessDenied")
	}
	f.wantAnswer(t, as(bobKey, bobSecret, "DELETE", "/bkt", nil), 403, "AccessDenied")
	f.wantAnswer(t, as(bobKey, bobSecret, "PUT", "/bkt", nil), 409, "BucketAlreadyExists")
	f.wantAnswer(t, as(aliceKey, aliceSecret, "PUT", "/bkt", nil), 409, "BucketAlreadyOwnedByYou")
	f.wantAnswer(t, as(bobKey, bobSecret, "PUT", "/bobs", nil), 200, "")
	f.wantAnswer(t, as(bobKey, bobSecret, "PUT", "/bobs/k", map[string]string{"x-amz-copy-source": "/bkt/k"}), 403, "AccessDenied")
	f.wantAnswer(t, as(bobKey, bobSecret, "GET", "/nowhere", nil), 404, "NoSuchBucket")
	for user, code := range map[string]string{"alice": "", "bob": "AccessDenied"} {
		status := map[string]int{"": 200, "AccessDenied": 403}[code]
		f.wantAnswer(t, as(aliceKey, aliceSecret, "GET", "/bkt/k", map[string]string{"x-amz-expected-bucket-owner": user}), status, code)
		f.wantAnswer(t, as(aliceKey, aliceSecret, "PUT", "/bkt/c", map[string]string{"x-amz-copy-source": "/bkt/k", "x-amz-source-expected-bucket-owner": user}), status, code)
	}
	for key, want := range map[string]string{aliceKey: "[bkt]", bobKey: "[bobs]", adminKey: "[bkt bobs]"} {
		k, _ := testKeys.Key(t.Context(), key)
		body := f.wantAnswer(t, as(key, k.Secret, "GET", "/", nil), 200, "")
		var got []string
		for _, name := range []string{"bkt", "bobs"} {
			if bytes.Contains(body, []byte("<Name>"+name+"</Name>")) {
				got = append(got, name)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s sees %v, want %s", k.User, got, want)
		}
	}
}

func TestVirtualHost(t *testing.T) {
	f := bucketFront(t, func(c *gateway.Config) { c.Domain = "s3.Example.test" })
	f.wantAnswer(t, f.signed(t, "PUT", "/bkt/a/b", []byte("x"), nil), 200, "")
	send := func(host, path string) *http.Request {
		r := must(http.NewRequest("GET", f.URL+path, nil))
		r.Host = host
		signHost(t, r)
		return r
	}
	for _, host := range []string{"bkt.s3.example.test", "BKT.s3.example.test:9000"} {
		if body := f.wantAnswer(t, send(host, "/a/b"), 200, ""); string(body) != "x" {
			t.Errorf("%s: %q", host, body)
		}
		if body := f.wantAnswer(t, send(host, "/"), 200, ""); !bytes.Contains(body, []byte("<Key>a/b</Key>")) {
			t.Errorf("%s lists %s", host, body)
		}
	}
	f.wantAnswer(t, send("s3.example.test", "/bkt/a/b"), 200, "")
	f.wantAnswer(t, send("localhost", "/bkt/a/b"), 200, "")
	f.wantAnswer(t, send("other.s3.example.test", "/a/b"), 404, "NoSuchBucket")
}

func TestLocation(t *testing.T) {
	f := bucketFront(t, nil)
	doc := func(region string) []byte {
		return []byte("<CreateBucketConfiguration><LocationConstraint>" + region + "</LocationConstraint></CreateBucketConfiguration>")
	}
	f.wantAnswer(t, f.signed(t, "PUT", "/here", doc("us-east-1"), nil), 200, "")
	f.wantAnswer(t, f.signed(t, "PUT", "/there", doc("eu-west-1"), nil), 400, "IllegalLocationConstraintException")
	f.wantAnswer(t, f.signed(t, "PUT", "/there", doc("nonsense"), nil), 400, "InvalidLocationConstraint")
	f.wantAnswer(t, f.signed(t, "PUT", "/there", []byte("<Other/>"), nil), 400, "MalformedXML")
	f.wantAnswer(t, f.signed(t, "PUT", "/there", []byte("<CreateBucketConfiguration><Tags/></CreateBucketConfiguration>"), nil), 501, "NotImplemented")
	_, _, _, h := f.do(t, f.signed(t, "HEAD", "/here", nil, nil))
	if h.Get("X-Amz-Bucket-Region") != "us-east-1" {
		t.Errorf("region %q", h.Get("X-Amz-Bucket-Region"))
	}
	f.wantAnswer(t, f.signed(t, "GET", "/there", nil, nil), 404, "NoSuchBucket")
}
