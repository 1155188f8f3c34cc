package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"larder/gateway"
	"larder/gateway/gatewaytest"
)

// The users of every test front.
const (
	adminKey, adminSecret = "ADMINADMINADMINADMIN", "adminsecretadminsecretadminsecret"
	aliceKey, aliceSecret = "ALICEALICEALICEALICE", "alicesecretalicesecretalicesecret"
	bobKey, bobSecret     = "BOBBOBBOBBOBBOBBOB00", "bobsecretbobsecretbobsecretbobse"
)

// keyring is a fixed gateway.Keyring.
type keyring map[string]gateway.AccessKey

func (k keyring) Key(_ context.Context, id string) (gateway.AccessKey, error) {
	if key, ok := k[id]; ok {
		return key, nil
	}
	return gateway.AccessKey{}, gateway.ErrNoSuchAccessKey
}

var testKeys = keyring{
	adminKey: {ID: adminKey, Secret: adminSecret, User: "admin", Admin: true},
	aliceKey: {ID: aliceKey, Secret: aliceSecret, User: "alice"},
	bobKey:   {ID: bobKey, Secret: bobSecret, User: "bob"},
}

// front is one gateway over a Memory backend, listening on loopback.
type front struct {
	*httptest.Server
	backend *gatewaytest.Memory
	metrics *prometheus.Registry
}

// newFront starts a front; change may alter its configuration. It ends with the test.
func newFront(t testing.TB, useTLS bool, change func(*gateway.Config)) *front {
	t.Helper()
	f := &front{backend: gatewaytest.NewMemory(), metrics: prometheus.NewRegistry()}
	cfg := gateway.Config{Backend: f.backend, Keyring: testKeys, Log: zap.NewNop(), Metrics: f.metrics}
	if change != nil {
		change(&cfg)
	}
	f.Server = httptest.NewUnstartedServer(nil)
	f.Config = gateway.NewServer(gateway.New(cfg), cfg.Log)
	if useTLS {
		f.EnableHTTP2 = true
		f.StartTLS()
	} else {
		f.Start()
	}
	t.Cleanup(f.Close)
	return f
}

// sdk returns an AWS SDK client of f. httptest's own client trusts its certificate.
func (f *front) sdk(key, secret string) *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: aws.String(f.URL), Region: "us-east-1", UsePathStyle: true, HTTPClient: f.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""), RetryMaxAttempts: 1})
}

// request builds a signed request as alice; body may be nil.
func (f *front) signed(t testing.TB, method, target string, body []byte, header map[string]string) *http.Request {
	t.Helper()
	return signedAs(t, aliceKey, aliceSecret, time.Now(), method, f.URL+target, body, header)
}
