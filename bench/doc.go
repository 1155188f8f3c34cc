// Package bench loads an S3 endpoint and measures what it does: throughput, latencies, errors. It is for any S3 server, and knows
// nothing of Larder's; `larder bench` and `make bench` are its users (docs/figures.md has what they showed).
//
// A load generator shares its machine with what it measures, so it is built to cost little: each worker owns one connection and
// writes requests and reads answers on it itself, without the goroutines and pools of http.Client; bodies are made once; their
// hashes, too. What is left is the signature, 5 µs a request.
//
// Bodies are sent as UNSIGNED-PAYLOAD unless Config.SignBody is set: S3 allows it over plain HTTP as over TLS. Bodies that are
// read are counted and dropped; with Config.Verify they are compared, too.
package bench
