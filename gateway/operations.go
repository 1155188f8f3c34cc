package gateway

import (
	"net/http"
	"slices"
	"strings"
)

// pathKind says what a path names.
type pathKind uint8

const (
	onService pathKind = iota
	onBucket
	onObject
)

// access says who may run an operation.
type access uint8

const (
	ownerOnly access = iota // the owner of the bucket
	anyUser                 // whoever has an access key
	anybody                 // no signature needed
)

// operation is one row of the operation table.
type operation struct {
	name   string
	method string
	kind   pathKind
	// selects are the query keys, "key" or "key=value", that must be there for this row and not another.
	selects []string
	copies  bool // x-amz-copy-source must be there
	// params are the query keys that may be there besides.
	params []string
	// headers are the conditions and other headers with a meaning that this operation honours, in lower case, beyond
	// those of everyHeader.
	headers []string
	access  access
	streams bool // the body is an object's bytes, not a document
	// handle answers. It is nil for an operation that is known and not implemented.
	handle func(*request) error
}

var (
	overrides = []string{"response-content-type", "response-content-language", "response-expires", "response-cache-control",
		"response-content-disposition", "response-content-encoding"}
	readConditions  = []string{"if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
	writeConditions = []string{"if-match", "if-none-match"}
	copyHeaders     = []string{"x-amz-copy-source", "x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match",
		"x-amz-copy-source-if-modified-since", "x-amz-copy-source-if-unmodified-since", "x-amz-source-expected-bucket-owner"}
)

// operations is the one table of what S3 requests there are. Rows with a handler are in full; the others follow in
// knownOperations. A request takes the row with the most selects that all hold; see match.
var operations = append([]operation{
	{name: "ListBuckets", method: "GET", kind: onService, access: anyUser, handle: (*request).listBuckets,
		params: []string{"prefix", "max-buckets", "continuation-token", "bucket-region"}},

	{name: "CreateBucket", method: "PUT", kind: onBucket, access: anyUser, handle: (*request).createBucket,
		headers: []string{"x-amz-bucket-object-lock-enabled", "x-amz-object-ownership"}},
	{name: "DeleteBucket", method: "DELETE", kind: onBucket, handle: (*request).deleteBucket},
	{name: "HeadBucket", method: "HEAD", kind: onBucket, handle: (*request).headBucket},
	{name: "GetBucketLocation", method: "GET", kind: onBucket, selects: []string{"location"}, handle: (*request).getBucketLocation},
	{name: "ListObjects", method: "GET", kind: onBucket, handle: (*request).listObjects,
		params: []string{"prefix", "delimiter", "encoding-type", "marker", "max-keys"}},
	{name: "ListObjectsV2", method: "GET", kind: onBucket, selects: []string{"list-type=2"}, handle: (*request).listObjectsV2,
		params: []string{"prefix", "delimiter", "encoding-type", "start-after", "continuation-token", "fetch-owner", "max-keys"}},
	{name: "ListMultipartUploads", method: "GET", kind: onBucket, selects: []string{"uploads"}, handle: (*request).listUploads,
		params: []string{"prefix", "delimiter", "encoding-type", "key-marker", "upload-id-marker", "max-uploads"}},
	{name: "DeleteObjects", method: "POST", kind: onBucket, selects: []string{"delete"}, handle: (*request).deleteObjects},
	{name: "PreflightBucket", method: "OPTIONS", kind: onBucket, access: anybody, handle: (*request).preflight},

	{name: "GetBucketAccelerateConfiguration", method: "GET", kind: onBucket, selects: []string{"accelerate"}, handle: emptyDocument("AccelerateConfiguration")},
	{name: "GetBucketAcl", method: "GET", kind: onBucket, selects: []string{"acl"}, handle: (*request).getBucketACL},
	{name: "GetBucketCors", method: "GET", kind: onBucket, selects: []string{"cors"}, handle: absent("NoSuchCORSConfiguration")},
	{name: "GetBucketEncryption", method: "GET", kind: onBucket, selects: []string{"encryption"}, handle: (*request).getBucketEncryption},
	{name: "GetBucketLifecycleConfiguration", method: "GET", kind: onBucket, selects: []string{"lifecycle"}, handle: absent("NoSuchLifecycleConfiguration")},
	{name: "GetBucketLogging", method: "GET", kind: onBucket, selects: []string{"logging"}, handle: emptyDocument("BucketLoggingStatus")},
	{name: "GetBucketNotificationConfiguration", method: "GET", kind: onBucket, selects: []string{"notification"}, handle: emptyDocument("NotificationConfiguration")},
	{name: "GetBucketOwnershipControls", method: "GET", kind: onBucket, selects: []string{"ownershipControls"}, handle: absent("OwnershipControlsNotFoundError")},
	{name: "GetBucketPolicy", method: "GET", kind: onBucket, selects: []string{"policy"}, handle: absent("NoSuchBucketPolicy")},
	{name: "GetBucketPolicyStatus", method: "GET", kind: onBucket, selects: []string{"policyStatus"}, handle: absent("NoSuchBucketPolicy")},
	{name: "GetBucketReplication", method: "GET", kind: onBucket, selects: []string{"replication"}, handle: absent("ReplicationConfigurationNotFoundError")},
	{name: "GetBucketRequestPayment", method: "GET", kind: onBucket, selects: []string{"requestPayment"}, handle: (*request).getBucketRequestPayment},
	{name: "GetBucketTagging", method: "GET", kind: onBucket, selects: []string{"tagging"}, handle: absent("NoSuchTagSet")},
	{name: "GetBucketVersioning", method: "GET", kind: onBucket, selects: []string{"versioning"}, handle: emptyDocument("VersioningConfiguration")},
	{name: "GetBucketWebsite", method: "GET", kind: onBucket, selects: []string{"website"}, handle: absent("NoSuchWebsiteConfiguration")},
	{name: "GetObjectLockConfiguration", method: "GET", kind: onBucket, selects: []string{"object-lock"}, handle: absent("ObjectLockConfigurationNotFoundError")},
	{name: "GetPublicAccessBlock", method: "GET", kind: onBucket, selects: []string{"publicAccessBlock"}, handle: absent("NoSuchPublicAccessBlockConfiguration")},

	{name: "PutObject", method: "PUT", kind: onObject, streams: true, handle: (*request).putObject, headers: writeConditions},
	{name: "CopyObject", method: "PUT", kind: onObject, copies: true, handle: (*request).copyObject,
		headers: slices.Concat(writeConditions, copyHeaders, []string{"x-amz-metadata-directive", "x-amz-tagging-directive"})},
	{name: "GetObject", method: "GET", kind: onObject, handle: (*request).getObject, headers: readConditions,
		params: slices.Concat(overrides, []string{"partNumber", "versionId"})},
	{name: "HeadObject", method: "HEAD", kind: onObject, handle: (*request).getObject, headers: readConditions,
		params: slices.Concat(overrides, []string{"partNumber", "versionId"})},
	{name: "DeleteObject", method: "DELETE", kind: onObject, handle: (*request).deleteObject, params: []string{"versionId"},
		headers: []string{"if-match", "x-amz-if-match-last-modified-time", "x-amz-if-match-size"}},
	{name: "GetObjectAcl", method: "GET", kind: onObject, selects: []string{"acl"}, params: []string{"versionId"}, handle: (*request).getObjectACL},
	{name: "GetObjectTagging", method: "GET", kind: onObject, selects: []string{"tagging"}, params: []string{"versionId"}, handle: (*request).getObjectTagging},
	{name: "GetObjectAttributes", method: "GET", kind: onObject, selects: []string{"attributes"}, params: []string{"versionId"}, handle: (*request).getObjectAttributes,
		headers: []string{"x-amz-object-attributes", "x-amz-max-parts", "x-amz-part-number-marker"}},
	{name: "PreflightObject", method: "OPTIONS", kind: onObject, access: anybody, handle: (*request).preflight},

	{name: "CreateMultipartUpload", method: "POST", kind: onObject, selects: []string{"uploads"}, handle: (*request).createUpload},
	{name: "UploadPart", method: "PUT", kind: onObject, selects: []string{"partNumber", "uploadId"}, streams: true, handle: (*request).uploadPart},
	{name: "UploadPartCopy", method: "PUT", kind: onObject, selects: []string{"partNumber", "uploadId"}, copies: true, handle: (*request).uploadPartCopy,
		headers: slices.Concat(copyHeaders, []string{"x-amz-copy-source-range"})},
	{name: "CompleteMultipartUpload", method: "POST", kind: onObject, selects: []string{"uploadId"}, handle: (*request).completeUpload,
		headers: slices.Concat(writeConditions, []string{"x-amz-mp-object-size"})},
	{name: "AbortMultipartUpload", method: "DELETE", kind: onObject, selects: []string{"uploadId"}, handle: (*request).abortUpload,
		headers: []string{"x-amz-if-match-initiated-time"}},
	{name: "ListParts", method: "GET", kind: onObject, selects: []string{"uploadId"}, handle: (*request).listParts,
		params: []string{"max-parts", "part-number-marker", "encoding-type"}},
}, knownOperations()...)

// knownOperations returns the rows of the operations that are refused by name.
func knownOperations() []operation {
	var rows []operation
	for line := range strings.Lines(`
		GET bucket analytics GetBucketAnalyticsConfiguration
		GET bucket abac GetBucketAbac
		GET bucket intelligent-tiering GetBucketIntelligentTieringConfiguration
		GET bucket inventory GetBucketInventoryConfiguration
		GET bucket metadataConfiguration GetBucketMetadataConfiguration
		GET bucket metadataTable GetBucketMetadataTableConfiguration
		GET bucket metrics GetBucketMetricsConfiguration
		GET bucket session CreateSession
		GET bucket versions ListObjectVersions
		PUT bucket abac PutBucketAbac
		PUT bucket accelerate PutBucketAccelerateConfiguration
		PUT bucket acl PutBucketAcl
		PUT bucket analytics PutBucketAnalyticsConfiguration
		PUT bucket cors PutBucketCors
		PUT bucket encryption PutBucketEncryption
		PUT bucket intelligent-tiering PutBucketIntelligentTieringConfiguration
		PUT bucket inventory PutBucketInventoryConfiguration
		PUT bucket lifecycle PutBucketLifecycleConfiguration
		PUT bucket logging PutBucketLogging
		PUT bucket metadataInventoryTable UpdateBucketMetadataInventoryTableConfiguration
		PUT bucket metadataJournalTable UpdateBucketMetadataJournalTableConfiguration
		PUT bucket metrics PutBucketMetricsConfiguration
		PUT bucket notification PutBucketNotificationConfiguration
		PUT bucket object-lock PutObjectLockConfiguration
		PUT bucket ownershipControls PutBucketOwnershipControls
		PUT bucket policy PutBucketPolicy
		PUT bucket publicAccessBlock PutPublicAccessBlock
		PUT bucket replication PutBucketReplication
		PUT bucket requestPayment PutBucketRequestPayment
		PUT bucket tagging PutBucketTagging
		PUT bucket versioning PutBucketVersioning
		PUT bucket website PutBucketWebsite
		DELETE bucket analytics DeleteBucketAnalyticsConfiguration
		DELETE bucket cors DeleteBucketCors
		DELETE bucket encryption DeleteBucketEncryption
		DELETE bucket intelligent-tiering DeleteBucketIntelligentTieringConfiguration
		DELETE bucket inventory DeleteBucketInventoryConfiguration
		DELETE bucket lifecycle DeleteBucketLifecycle
		DELETE bucket metadataConfiguration DeleteBucketMetadataConfiguration
		DELETE bucket metadataTable DeleteBucketMetadataTableConfiguration
		DELETE bucket metrics DeleteBucketMetricsConfiguration
		DELETE bucket ownershipControls DeleteBucketOwnershipControls
		DELETE bucket policy DeleteBucketPolicy
		DELETE bucket publicAccessBlock DeletePublicAccessBlock
		DELETE bucket replication DeleteBucketReplication
		DELETE bucket tagging DeleteBucketTagging
		DELETE bucket website DeleteBucketWebsite
		POST bucket - PostObject
		POST bucket metadataConfiguration CreateBucketMetadataConfiguration
		POST bucket metadataTable CreateBucketMetadataTableConfiguration
		GET object legal-hold GetObjectLegalHold
		GET object retention GetObjectRetention
		GET object torrent GetObjectTorrent
		PUT object acl PutObjectAcl
		PUT object encryption UpdateObjectEncryption
		PUT object legal-hold PutObjectLegalHold
		PUT object renameObject RenameObject
		PUT object retention PutObjectRetention
		PUT object tagging PutObjectTagging
		DELETE object tagging DeleteObjectTagging
		POST object restore RestoreObject
		POST object select SelectObjectContent`) {
		f := strings.Fields(line)
		if len(f) != 4 {
			continue
		}
		row := operation{name: f[3], method: f[0], kind: onBucket}
		if f[1] == "object" {
			row.kind = onObject
		}
		if f[2] != "-" {
			row.selects = []string{f[2]}
		}
		rows = append(rows, row)
	}
	return rows
}

// harmlessParams are query keys with no meaning for the answer.
var harmlessParams = []string{"x-id"}

// signatureParams are the query keys of presigned requests, and of Signature Version 2, which SigV4 refuses by its own name.
var signatureParams = []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
	"X-Amz-Security-Token", "X-Amz-Content-Sha256", "AWSAccessKeyId", "Signature", "Expires"}

// match finds the row of the operation table, and refuses what the row does not know.
func (q *request) match() error {
	kind := onObject
	switch {
	case q.bucket == "":
		kind = onService
	case q.key == "":
		kind = onBucket
	}
	_, copies := q.r.Header["X-Amz-Copy-Source"]
	var best *operation
	methodKnown := false
	for i := range operations {
		op := &operations[i]
		if op.method != q.r.Method || op.kind != kind {
			continue
		}
		methodKnown = true
		if op.copies && !copies || !q.selected(op) {
			continue
		}
		if best == nil || len(op.selects) > len(best.selects) || op.copies && len(op.selects) == len(best.selects) {
			best = op
		}
	}
	if best == nil {
		if name := q.unknownParam(nil); name != "" && methodKnown {
			return notImplemented("the query parameter " + name)
		}
		return refuse("MethodNotAllowed", [2]string{"Method", q.r.Method}, [2]string{"ResourceType", [...]string{"SERVICE", "BUCKET", "OBJECT"}[kind]})
	}
	q.op = best
	if best.handle == nil {
		return notImplemented("the operation " + best.name)
	}
	if name := q.unknownParam(best); name != "" {
		return notImplemented("the query parameter " + name + " of " + best.name)
	}
	if v, ok := q.query.Lookup("versionId"); ok && v != "null" {
		return notImplemented("a versionId other than null")
	}
	return nil
}

// selected says whether the query has all that a row asks for.
func (q *request) selected(op *operation) bool {
	for _, s := range op.selects {
		name, want, valued := strings.Cut(s, "=")
		if v, ok := q.query.Lookup(name); !ok || valued && v != want {
			return false
		}
	}
	return true
}

// unknownParam returns a query key that op has no meaning for, or that is given twice; "" if there is none.
func (q *request) unknownParam(op *operation) string {
	_, presigned := q.query.Lookup("X-Amz-Signature")
	seen := make(map[string]bool, len(q.query))
	for _, p := range q.query {
		if seen[p.Name] {
			return p.Name
		}
		seen[p.Name] = true
		known := slices.Contains(harmlessParams, p.Name) || slices.Contains(signatureParams, p.Name) ||
			presigned && isHeaderParam(p.Name)
		if op != nil {
			known = known || slices.Contains(op.params, p.Name) || slices.ContainsFunc(op.selects, func(s string) bool {
				name, _, _ := strings.Cut(s, "=")
				return name == p.Name
			})
		}
		if !known {
			return p.Name
		}
	}
	return ""
}

// isHeaderParam says whether a presigned request carries an x-amz- header in this query key.
func isHeaderParam(name string) bool {
	return len(name) > 6 && strings.EqualFold(name[:6], "x-amz-") && !slices.Contains(signatureParams, name)
}

// notImplemented refuses by name what this server knows and does not do, or does not know.
func notImplemented(what string) *Error {
	return refusef("NotImplemented", "Not implemented here: %s.", printable(what))
}

// preflight is answered by the chain's CORS step; there is no configuration that could let it come here.
func (q *request) preflight() error { return refuse("AccessForbidden") }

// isWrite says whether a method changes something.
func isWrite(method string) bool {
	return method == http.MethodPut || method == http.MethodPost || method == http.MethodDelete
}
