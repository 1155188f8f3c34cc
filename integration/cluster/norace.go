//go:build !race

package cluster

var raceFlag []string

// Raced: see race.go.
const Raced = false
