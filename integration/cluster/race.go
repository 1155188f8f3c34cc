//go:build race

package cluster

// Tests under the race detector test a program under the race detector.
var raceFlag = []string{"-race"}

// Raced says that the tests run under the race detector, as the program does.
const Raced = true
