package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3Client is an AWS SDK client for the node's gateway. It does not try again unless options say so: what a test counts as one
// request is to be one.
func (n *Node) S3Client(options ...func(*s3.Options)) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(n.S3), UsePathStyle: true, Region: "us-east-1", Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(n.Keys.Access, n.Keys.Secret, ""),
		HTTPClient:  HTTPClient(nil),
	}, options...)
}

// HTTPClient is a client with connections of its own that knows no proxy. It trusts roots, or what the system trusts if they are nil.
func HTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: 5 * time.Minute,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		},
	}
}
