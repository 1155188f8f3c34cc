// Package larder is the root of the module and holds no code: layers_test.go keeps its packages in order. The program is cmd/larder;
// README.md says how to run it, and docs/ what the words mean and which section of which paper is where.
package larder
