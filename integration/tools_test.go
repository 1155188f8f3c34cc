package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"larder/integration/cluster"
)

func TestMain(m *testing.M) {
	// What `make clients` installed comes first, whoever started the tests.
	if venv, err := filepath.Abs("../.cache/venv/bin"); err == nil {
		if _, err := os.Stat(filepath.Join(venv, "aws")); err == nil {
			os.Setenv("PATH", venv+string(os.PathListSeparator)+os.Getenv("PATH"))
		}
	}
	cluster.Main(m)
}

// endpoint is where a client goes, and as whom.
type endpoint struct {
	node   *cluster.Node
	caFile string         // the certificate to trust, for https
	roots  *x509.CertPool // the same
	files  int            // of a tree that the aws command line syncs
}

// enough skips what might not end before the test binary is stopped: go test gives a package ten minutes unless it is told otherwise,
// and all of this takes longer. make test gives it the time, and with CI=true nothing is skipped.
func enough(t *testing.T) {
	t.Helper()
	most := 3 * time.Minute // for one test
	if cluster.Raced {
		most *= 2
	}
	deadline, ok := t.Deadline()
	if left := time.Until(deadline); ok && left < most && os.Getenv("CI") != "true" {
		t.Skipf("%v left until -timeout: make test runs all", left.Round(time.Second))
	}
}

// needs skips the test if a program is absent, or fails it where all are to be there.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no clients but those in Go")
	}
	enough(t)
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed: make clients", p)
		}
		t.Skipf("%s is not installed: make clients", p)
	}
}

// shell is the environment of one client: a home of its own, no proxy, no certificates but the endpoint's.
type shell struct {
	home string
	env  []string
	e    *endpoint
}

func newShell(t *testing.T, e *endpoint) *shell {
	t.Helper()
	home := t.TempDir()
	config := "[default]\nregion = us-east-1\ns3 =\n    signature_version = s3v4\n    addressing_style = path\n"
	if err := os.WriteFile(filepath.Join(home, "aws-config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "LANG=C.UTF-8", "NO_PROXY=*",
		"AWS_CONFIG_FILE=" + filepath.Join(home, "aws-config"), "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(home, "none"),
		"AWS_ACCESS_KEY_ID=" + e.node.Keys.Access, "AWS_SECRET_ACCESS_KEY=" + e.node.Keys.Secret,
		"AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=5",
	}
	if root := os.Getenv("PYENV_ROOT"); root != "" { // python3 may be a shim that looks for it
		env = append(env, "PYENV_ROOT="+root)
	}
	return &shell{home: home, env: env, e: e}
}

// command is a client's process, which is not started yet.
func (s *shell) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Dir = s.env, s.home
	if s.e.caFile != "" && name != "rclone" { // which brings its own and fails when told twice
		cmd.Env = append(slices.Clip(cmd.Env), "AWS_CA_BUNDLE="+s.e.caFile)
	}
	return cmd
}

// commandMax bounds each call of a client.
const commandMax = 5 * time.Minute

// run runs a client and returns its standard output. The test ends if it fails.
func (s *shell) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := s.try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try is run for clients that may fail.
func (s *shell) try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandMax)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := s.command(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	if took := time.Since(begin); took > 10*time.Second {
		t.Logf("%v: %s %.60s", took.Round(time.Second), name, strings.Join(args, " "))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%.2000s\n%.4000s", name, strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// aws runs the aws command line.
func (s *shell) aws(t *testing.T, args ...string) string {
	t.Helper()
	return s.run(t, "aws", s.awsArgs(args...)...)
}

func (s *shell) awsArgs(args ...string) []string {
	return append([]string{"--endpoint-url", s.e.node.S3}, args...)
}

// fill writes n random bytes to a file, and returns their SHA-256.
func fill(t *testing.T, file string, n int64) (sum [32]byte) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(randomBytes(), n)); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func randomBytes() io.Reader {
	var seed [32]byte
	_, _ = rand.Read(seed[:])
	return mathrand.NewChaCha8(seed)
}

func sumFile(t *testing.T, file string) (sum [32]byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// tree makes a directory of n small files in nested directories, empty ones and names with spaces, signs and other scripts among them.
func tree(t *testing.T, dir string, n int) {
	t.Helper()
	names := []string{"plain", "with space", "größe", "日本", "a+b&c=d", "100%", "semi;colon", "tilde~", "quote's"}
	random := randomBytes()
	for i := range n {
		d := filepath.Join(dir, fmt.Sprintf("d%02d", i%37), fmt.Sprintf("e%d", i%5))
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, (i*i*31)%20000)
		if i%50 == 0 {
			b = nil
		}
		_, _ = random.Read(b)
		if err := os.WriteFile(filepath.Join(d, fmt.Sprintf("%s %d.bin", names[i%len(names)], i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// sameTree fails the test unless the directories hold the same files.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	a, b := sums(t, want), sums(t, got)
	wrong := 0
	for name, sum := range a {
		if other, ok := b[name]; !ok || other != sum {
			if wrong++; wrong < 10 {
				t.Errorf("%s: is there %t, the same %t", name, ok, other == sum)
			}
		}
	}
	if len(a) != len(b) || wrong > 0 {
		t.Fatalf("%d files, want %d; %d lost or different", len(b), len(a), wrong)
	}
}

func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[strings.TrimPrefix(path, dir)] = sumFile(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// certificate makes a self-signed certificate for 127.0.0.1, as files.
func certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "larder test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, text := range map[string][]byte{certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, roots
}
