// Package sigv4 is AWS Signature Version 4 as S3 uses it, as pure functions of bytes and a time: signing and verifying
// requests by header and by query (presigned), and reading and writing bodies in aws-chunked form with chunk signatures
// and trailers. It reads no clock, knows no user and opens no connection; gateway asks it who signed a request, finds the
// secret, and lets it verify.
//
// It implements the documents "Authenticating Requests (AWS Signature Version 4)" of the Amazon S3 API reference:
// "Using the Authorization Header", "Using Query Parameters", "Transferring Payload in Multiple Chunks" with and without
// trailers. S3 differs from the other AWS services in that a path is neither normalised nor escaped twice.
//
// The forms of x-amz-content-sha256:
//
//	64 hex digits                               SHA-256 of the body
//	UNSIGNED-PAYLOAD                            the body is not covered
//	STREAMING-AWS4-HMAC-SHA256-PAYLOAD          aws-chunked, each chunk signed
//	STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER  the same, with signed trailers
//	STREAMING-UNSIGNED-PAYLOAD-TRAILER          aws-chunked, unsigned, with trailers
//
// Signature Version 2 and the asymmetric Version 4A are recognised and refused.
package sigv4
