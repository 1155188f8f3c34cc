package integration

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"larder/integration/cluster"
)

// TestClients drives one node and five with each client, plain and over TLS.
func TestClients(t *testing.T) {
	all := []struct {
		name string
		run  func(*testing.T, *endpoint)
		tls  bool // over TLS too
	}{
		{"SDK", testSDK, true}, {"Minio", testMinio, true}, {"AWS", testAWS, true}, {"AWSSync", testAWSSync, false}, {"Boto3", testBoto3, true},
		{"Rclone", testRclone, true}, {"S3cmd", testS3cmd, true}, {"Restic", testRestic, true},
	}
	worlds := []struct {
		name string
		make func(t *testing.T) *endpoint
	}{
		{"One", func(t *testing.T) *endpoint { return &endpoint{node: cluster.Start(t), files: 500} }},
		{"Five", func(t *testing.T) *endpoint { return &endpoint{node: cluster.Dev(t, 5).Nodes[3], files: 2000} }},
		{"TLS", func(t *testing.T) *endpoint {
			cert, key, roots := certificate(t)
			return &endpoint{node: cluster.Start(t, "--tls-cert="+cert, "--tls-key="+key), caFile: cert, roots: roots}
		}},
	}
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			e := w.make(t)
			for _, c := range all {
				if w.name != "TLS" || c.tls {
					t.Run(c.name, func(t *testing.T) { c.run(t, e) })
				}
			}
		})
	}
}

// testAWS copies objects of many sizes with the aws command line, presigns, and removes.
func testAWS(t *testing.T, e *endpoint) {
	needs(t, "aws")
	s := newShell(t, e)
	s.aws(t, "s3", "mb", "s3://aws-copies")
	sizes := []int64{0, 1, 4 << 10, 20 << 20}
	if e.caFile == "" { // TLS in Python takes long
		sizes = append(sizes, 1<<30)
	}
	for _, size := range sizes {
		up, down := filepath.Join(s.home, "up"), filepath.Join(s.home, "down")
		sum := fill(t, up, size)
		object := fmt.Sprintf("s3://aws-copies/of %d", size)
		s.aws(t, "s3", "cp", "--no-progress", up, object)
		s.aws(t, "s3", "cp", "--no-progress", object, down)
		if got := sumFile(t, down); got != sum {
			t.Errorf("%d bytes: came back different", size)
		}
		if size == 4<<10 {
			testPresigned(t, s, object, sum)
		}
	}
	s.aws(t, "s3", "rm", "--recursive", "s3://aws-copies")
	if left := s.aws(t, "s3", "ls", "--recursive", "s3://aws-copies"); left != "" {
		t.Errorf("left after rm --recursive: %s", left)
	}
	s.aws(t, "s3", "rb", "s3://aws-copies")
	if _, err := s.try(t, "aws", s.awsArgs("s3", "ls", "s3://aws-copies")...); err == nil || !strings.Contains(err.Error(), "NoSuchBucket") {
		t.Errorf("ls of a bucket that was removed: %v, want NoSuchBucket", err)
	}
}

// testPresigned fetches an object by a URL that the aws command line signed, as it is and with a character changed.
func testPresigned(t *testing.T, s *shell, object string, sum [32]byte) {
	t.Helper()
	url := strings.TrimSpace(s.aws(t, "s3", "presign", object))
	if !strings.Contains(url, "X-Amz-Signature=") {
		t.Fatalf("not Signature Version 4: %s", url)
	}
	client := cluster.HTTPClient(s.e.roots)
	get := func(url string) (int, []byte) {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, body
	}
	if status, body := get(url); status != http.StatusOK || sha256.Sum256(body) != sum {
		t.Errorf("presigned: %d, %d bytes, or different ones", status, len(body))
	}
	if status, _ := get(strings.Replace(url, "aws-copies/of", "aws-copies/oh", 1)); status != http.StatusForbidden {
		t.Errorf("presigned for another object: %d, want 403", status)
	}
}

// testAWSSync takes a tree up and down again, and a second time, when there is nothing to do.
func testAWSSync(t *testing.T, e *endpoint) {
	needs(t, "aws")
	s := newShell(t, e)
	up, down := filepath.Join(s.home, "up"), filepath.Join(s.home, "down")
	tree(t, up, e.files)
	s.aws(t, "s3", "mb", "s3://aws-sync")
	s.aws(t, "s3", "sync", "--only-show-errors", up, "s3://aws-sync/under/")
	s.aws(t, "s3", "sync", "--only-show-errors", "s3://aws-sync/under/", down)
	sameTree(t, up, down)
	if again := s.aws(t, "s3", "sync", "--no-progress", up, "s3://aws-sync/under/"); again != "" {
		t.Errorf("the second sync did something: %.500s", again)
	}
	s.aws(t, "s3", "rm", "--recursive", "--only-show-errors", "s3://aws-sync/")
	if left := s.aws(t, "s3", "ls", "--recursive", "s3://aws-sync"); left != "" {
		t.Errorf("left after rm --recursive: %.500s", left)
	}
}

func testBoto3(t *testing.T, e *endpoint) {
	needs(t, "python3")
	s := newShell(t, e)
	if _, err := s.try(t, "python3", "-c", "import boto3"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("boto3 is not installed: make clients: %v", err)
		}
		t.Skip("boto3 is not installed: make clients")
	}
	script, err := filepath.Abs("testdata/boto3_client.py")
	if err != nil {
		t.Fatal(err)
	}
	if out := s.run(t, "python3", script, e.node.S3, "boto3-bucket"); !strings.HasSuffix(out, "boto3: ok\n") {
		t.Errorf("the script ended early: %s", out)
	}
}

// testRclone syncs a tree, compares it byte for byte, and copies it on the server.
func testRclone(t *testing.T, e *endpoint) {
	needs(t, "rclone")
	s := newShell(t, e)
	config := fmt.Sprintf("[larder]\ntype = s3\nprovider = Other\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = %s\nregion = us-east-1\n",
		e.node.Keys.Access, e.node.Keys.Secret, e.node.S3)
	file := filepath.Join(s.home, "rclone.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	rclone := func(args ...string) string {
		t.Helper()
		args = append([]string{"--config", file, "--retries", "1"}, args...)
		if e.caFile != "" {
			args = append([]string{"--ca-cert", e.caFile}, args...)
		}
		return s.run(t, "rclone", args...)
	}
	up, down := filepath.Join(s.home, "up"), filepath.Join(s.home, "down")
	tree(t, up, 200)
	fill(t, filepath.Join(up, "large"), 30<<20) // in parts
	rclone("mkdir", "larder:rclone-one")
	rclone("mkdir", "larder:rclone-two")
	rclone("sync", "--s3-upload-cutoff", "16M", "--s3-chunk-size", "8M", up, "larder:rclone-one/tree")
	rclone("check", "--download", up, "larder:rclone-one/tree")
	rclone("copy", "larder:rclone-one/tree", "larder:rclone-two/copied") // on the server
	rclone("sync", "larder:rclone-two/copied", down)
	sameTree(t, up, down)
	if err := os.RemoveAll(filepath.Join(up, "d01")); err != nil {
		t.Fatal(err)
	}
	rclone("sync", up, "larder:rclone-one/tree")
	if listed := rclone("lsf", "-R", "larder:rclone-one/tree"); strings.Contains(listed, "d01/") {
		t.Error("sync left what the source lost")
	}
	rclone("purge", "larder:rclone-two")
}

// testS3cmd puts, lists, gets and deletes.
func testS3cmd(t *testing.T, e *endpoint) {
	needs(t, "s3cmd")
	s := newShell(t, e)
	host := strings.TrimPrefix(strings.TrimPrefix(e.node.S3, "https://"), "http://")
	yes := map[bool]string{true: "True", false: "False"}
	config := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = %s\nbucket_location = us-east-1\n",
		e.node.Keys.Access, e.node.Keys.Secret, host, host, yes[e.caFile != ""])
	if e.caFile != "" {
		config += "ca_certs_file = " + e.caFile + "\n"
	}
	file := filepath.Join(s.home, "s3cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s3cmd := func(args ...string) string {
		t.Helper()
		return s.run(t, "s3cmd", append([]string{"-c", file, "--no-progress"}, args...)...)
	}
	small, large := filepath.Join(s.home, "small"), filepath.Join(s.home, "large")
	smallSum, largeSum := fill(t, small, 1000), fill(t, large, 20<<20)
	s3cmd("mb", "s3://s3cmd-bucket")
	s3cmd("put", small, "s3://s3cmd-bucket/a small one")
	s3cmd("put", "--multipart-chunk-size-mb=5", large, "s3://s3cmd-bucket/large")
	if listed := s3cmd("ls", "s3://s3cmd-bucket"); !strings.Contains(listed, "s3://s3cmd-bucket/a small one") || !strings.Contains(listed, "20971520") {
		t.Errorf("ls: %s", listed)
	}
	for object, sum := range map[string][32]byte{"a small one": smallSum, "large": largeSum} {
		got := filepath.Join(s.home, "got")
		s3cmd("get", "--force", "s3://s3cmd-bucket/"+object, got)
		if sumFile(t, got) != sum {
			t.Errorf("%s: came back different", object)
		}
	}
	s3cmd("del", "s3://s3cmd-bucket/large")
	if listed := s3cmd("ls", "s3://s3cmd-bucket"); strings.Contains(listed, "large") {
		t.Errorf("ls after del: %s", listed)
	}
	s3cmd("del", "--recursive", "--force", "s3://s3cmd-bucket")
	s3cmd("rb", "s3://s3cmd-bucket")
}

// testRestic backs up, checks every byte of the repository, and restores.
func testRestic(t *testing.T, e *endpoint) {
	needs(t, "restic")
	s := newShell(t, e)
	s.env = append(s.env, "RESTIC_REPOSITORY=s3:"+e.node.S3+"/restic-bucket/repository", "RESTIC_PASSWORD=a password", "RESTIC_PROGRESS_FPS=0")
	restic := func(args ...string) string {
		t.Helper()
		if e.caFile != "" {
			args = append([]string{"--cacert", e.caFile}, args...)
		}
		return s.run(t, "restic", append([]string{"--no-cache"}, args...)...)
	}
	source, target := filepath.Join(s.home, "source"), filepath.Join(s.home, "target")
	tree(t, source, 300)
	fill(t, filepath.Join(source, "large"), 40<<20)
	restic("init")
	restic("backup", source)
	restic("check", "--read-data")
	fill(t, filepath.Join(source, "another"), 1<<20)
	restic("backup", source)
	restic("forget", "--keep-last", "1", "--prune")
	restic("restore", "latest", "--target", target)
	sameTree(t, source, filepath.Join(target, source))
}
