package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"larder/auth/sigv4"
	"larder/gateway/s3xml"
)

// Error is one refusal as the client sees it. Status and, unless it has its own, message come from errorTable.
type Error struct {
	Code    string
	Message string      // "" is the table's
	Facts   [][2]string // further elements of the body, name and text
	Header  [2]string   // a further header of the answer, if it has a name
	cause   error
}

func (e *Error) Error() string {
	if e.Message == "" {
		return "gateway: " + e.Code
	}
	return "gateway: " + e.Code + ": " + e.Message
}

// Unwrap returns the error that e stands for, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// refuse makes an Error of a code in the table.
func refuse(code string, facts ...[2]string) *Error { return &Error{Code: code, Facts: facts} }

// refusef is refuse with a message of its own.
func refusef(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalidArgument refuses the value of a parameter as S3 does.
func invalidArgument(name, value, message string) *Error {
	return &Error{Code: "InvalidArgument", Message: message, Facts: [][2]string{{"ArgumentName", name}, {"ArgumentValue", value}}}
}

// errorRow is one S3 error code. kinds are the errors of this program that it answers.
type errorRow struct {
	code    string
	status  int
	message string
	kinds   []error
}

// errorTable is the one table from our errors to S3's codes, statuses and messages ("Error responses" in the S3 API reference).
// An error that is not in it is InternalError.
var errorTable = []errorRow{
	{"AccessDenied", 403, "Access Denied", []error{sigv4.ErrAnonymous, sigv4.ErrMissingDate, sigv4.ErrNotYetValid, sigv4.ErrExpired, sigv4.ErrUnsignedHeaders}},
	{"AccessForbidden", 403, "CORSResponse: CORS is not enabled for this bucket.", nil},
	{"AuthorizationHeaderMalformed", 400, "The authorization header that you provided is not valid.", []error{sigv4.ErrHeaderMalformed}},
	{"AuthorizationQueryParametersError", 400, "The authorization query parameters that you provided are not valid.", []error{sigv4.ErrQueryMalformed}},
	{"BadDigest", 400, "The Content-MD5 or checksum value that you specified did not match what the server received.", nil},
	{"BadRequest", 400, "An error occurred when parsing the HTTP request.", nil},
	{"BucketAlreadyExists", 409, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.", []error{ErrBucketExists}},
	{"BucketAlreadyOwnedByYou", 409, "Your previous request to create the named bucket succeeded and you already own it.", nil},
	{"BucketNotEmpty", 409, "The bucket you tried to delete is not empty.", []error{ErrBucketNotEmpty}},
	{"ConditionalRequestConflict", 409, "The conditional request cannot succeed due to a conflicting operation against this resource.", []error{ErrConflict}},
	{"EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed object size.", nil},
	{"EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed size", []error{ErrPartTooSmall}},
	{"IllegalLocationConstraintException", 400, "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.", nil},
	{"IncompleteBody", 400, "The request body terminated unexpectedly", []error{sigv4.ErrIncompleteBody, sigv4.ErrChunkFraming}},
	{"InsufficientStorage", 507, "There is not enough space left to store this.", []error{ErrNoSpace}},
	{"InternalError", 500, "We encountered an internal error. Please try again.", nil},
	{"InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records.", []error{ErrNoSuchAccessKey}},
	{"InvalidArgument", 400, "Invalid argument.", []error{sigv4.ErrAuthType, sigv4.ErrTwoMechanisms, sigv4.ErrInvalidHash}},
	{"InvalidBucketName", 400, "The specified bucket is not valid.", nil},
	{"InvalidChunkSizeError", 403, "Only the last chunk is allowed to have a size less than 8192 bytes", []error{sigv4.ErrChunkTooSmall}},
	{"InvalidDigest", 400, "The Content-MD5 you specified is not valid.", nil},
	{"InvalidLocationConstraint", 400, "The specified location-constraint is not valid", nil},
	{"InvalidPart", 400, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.", []error{ErrInvalidPart}},
	{"InvalidPartNumber", 416, "The requested partnumber is not satisfiable.", nil},
	{"InvalidPartOrder", 400, "The list of parts was not in ascending order. Parts must be ordered by part number.", []error{ErrInvalidPartOrder}},
	{"InvalidRange", 416, "The requested range is not satisfiable", nil},
	{"InvalidRedirectLocation", 400, "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.", nil},
	{"InvalidRequest", 400, "Invalid request.", []error{sigv4.ErrUnsupported, sigv4.ErrMissingHash}},
	{"InvalidStorageClass", 400, "The storage class you specified is not valid.", nil},
	{"InvalidToken", 400, "The provided token is malformed or otherwise invalid.", []error{sigv4.ErrToken}},
	{"InvalidURI", 400, "Couldn't parse the specified URI.", []error{sigv4.ErrURI}},
	{"KeyTooLongError", 400, "Your key is too long.", nil},
	{"MalformedTrailerError", 400, "The request contained trailing data that was not well-formed or did not conform to our published schema.", []error{sigv4.ErrTrailer}},
	{"MalformedXML", 400, "The XML you provided was not well-formed or did not validate against our published schema.", []error{s3xml.ErrMalformed, s3xml.ErrTooLarge}},
	{"MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size", nil},
	{"MethodNotAllowed", 405, "The specified method is not allowed against this resource.", nil},
	{"MissingContentLength", 411, "You must provide the Content-Length HTTP header.", nil},
	{"NoSuchBucket", 404, "The specified bucket does not exist.", []error{ErrNoSuchBucket}},
	{"NoSuchBucketPolicy", 404, "The bucket policy does not exist.", nil},
	{"NoSuchCORSConfiguration", 404, "The CORS configuration does not exist", nil},
	{"NoSuchKey", 404, "The specified key does not exist.", []error{ErrNoSuchKey}},
	{"NoSuchLifecycleConfiguration", 404, "The lifecycle configuration does not exist.", nil},
	{"NoSuchPublicAccessBlockConfiguration", 404, "The public access block configuration was not found.", nil},
	{"NoSuchTagSet", 404, "The TagSet does not exist.", nil},
	{"NoSuchUpload", 404, "The specified multipart upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", []error{ErrNoSuchUpload}},
	{"NoSuchWebsiteConfiguration", 404, "The specified bucket does not have a website configuration", nil},
	{"NotImplemented", 501, "A header you provided implies functionality that is not implemented.", nil},
	{"NotModified", 304, "Not Modified.", nil},
	{"ObjectLockConfigurationNotFoundError", 404, "Object Lock configuration does not exist for this bucket.", nil},
	{"OwnershipControlsNotFoundError", 404, "The bucket ownership controls were not found.", nil},
	{"PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold.", []error{ErrPrecondition}},
	{"ReplicationConfigurationNotFoundError", 404, "The replication configuration was not found.", nil},
	{"RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large.", []error{sigv4.ErrSkewed}},
	{"RequestTimeout", 400, "Your socket connection to the server was not read from or written to within the timeout period.", []error{errBodyTimeout}},
	{"ServiceUnavailable", 503, "Service is unable to handle request.", []error{ErrUnavailable, context.DeadlineExceeded, context.Canceled}},
	{"SignatureDoesNotMatch", 403, "The request signature we calculated does not match the signature you provided. Check your key and signing method.", []error{sigv4.ErrSignature, sigv4.ErrChunkSignature, sigv4.ErrTrailerSignature}},
	{"SlowDown", 503, "Please reduce your request rate.", []error{ErrOverloaded}},
	{"XAmzContentSHA256Mismatch", 400, "The provided 'x-amz-content-sha256' header does not match what was computed.", nil},
}

// kindMessages are the messages of errors that share a code with others.
var kindMessages = map[error]string{
	sigv4.ErrTwoMechanisms: "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
	sigv4.ErrInvalidHash:   "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, or a valid sha256 value.",
	sigv4.ErrUnsupported:   "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
	sigv4.ErrMissingHash:   "Missing required header for this request: x-amz-content-sha256",

	sigv4.ErrMissingDate:     "AWS authentication requires a valid Date or x-amz-date header",
	sigv4.ErrNotYetValid:     "Request is not valid yet",
	sigv4.ErrExpired:         "Request has expired",
	sigv4.ErrUnsignedHeaders: "There were headers present in the request which were not signed",
}

// errorRows indexes errorTable by code.
var errorRows = func() map[string]*errorRow {
	m := make(map[string]*errorRow, len(errorTable))
	for i := range errorTable {
		m[errorTable[i].code] = &errorTable[i]
	}
	return m
}()

// asError returns the S3 error for err, whose chain may hold an *Error, an error of sigv4, or a kind of the table.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	out := &Error{Code: "InternalError", cause: err}
	var s *sigv4.Error
	if errors.As(err, &s) {
		out.Message, out.Facts = s.Message, s.Facts
	}
	for i := range errorTable {
		for _, kind := range errorTable[i].kinds {
			if errors.Is(err, kind) {
				out.Code = errorTable[i].code
				if out.Message == "" {
					out.Message = kindMessages[kind]
				}
				return out
			}
		}
	}
	return out
}

// status returns the HTTP status of e.
func (e *Error) status() int {
	if row := errorRows[e.Code]; row != nil {
		return row.status
	}
	return http.StatusInternalServerError
}

// text returns the message of e.
func (e *Error) text() string {
	if e.Message == "" && errorRows[e.Code] != nil {
		return errorRows[e.Code].message
	}
	return e.Message
}
