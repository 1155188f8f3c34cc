//go:build race

package cluster

// Tests under the race detector test a program under the race detector.
var raceFlag = []string{"-race"}
