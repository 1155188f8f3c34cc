// Package integration tests what users use: the clients they have (aws, boto3, rclone, s3cmd, restic, the AWS SDK and minio-go for
// Go) against real processes on loopback, one node and five, plain and over TLS, while nodes are killed, stopped, wiped and added.
// Package cluster beneath runs the processes; package linearizability judges histories of concurrent requests.
//
// With -short only the tests in Go run, at small sizes. A client that is absent skips its tests by name, and fails them if CI=true:
// `make clients` installs all. What might not end before -timeout is skipped, unless CI=true: make test gives all of it time.
// LARDER_SOAK=1 (make soak) gives everything the time it likes.
package integration
