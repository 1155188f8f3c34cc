//go:build !race

package cluster

var raceFlag []string
