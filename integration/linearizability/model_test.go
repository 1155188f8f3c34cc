package linearizability

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// kind is what a request does.
type kind uint8

const (
	put       kind = iota
	putAbsent      // If-None-Match: *
	putMatch       // If-Match: the ETag of want
	remove
	read // by GET, or one key's share of a listing
)

// outcome is what the client learned of it.
type outcome uint8

const (
	done    outcome = iota
	refused         // by its condition: nothing was changed
	unknown         // an error that leaves it open: the request is done at some time after it was made, or never
)

// request is one operation's input. Values are unique, and name what was written; "" is absence.
type request struct {
	key         string
	kind        kind
	value, want string
}

// answer is its output. value is what a read saw.
type answer struct {
	outcome outcome
	value   string
}

// never is the end of a request of unknown outcome.
const never = int64(math.MaxInt64)

// register is the model: one key's value.
var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		byKey := map[string]int{}
		for _, op := range history {
			key := op.Input.(request).key
			at, ok := byKey[key]
			if !ok {
				at = len(parts)
				byKey[key] = at
				parts = append(parts, nil)
			}
			parts[at] = append(parts[at], op)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(string), input.(request), output.(answer))
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}

// step says whether the answer is right where the key holds value, and what it holds then.
func step(value string, in request, out answer) (ok bool, next string) {
	holds := true
	switch in.kind {
	case read:
		return out.value == value, value
	case put, remove:
	case putAbsent:
		holds = value == ""
	case putMatch:
		holds = value == in.want
	}
	switch {
	case out.outcome == unknown && !holds:
		return true, value
	case out.outcome == refused:
		return !holds, value
	}
	return holds, in.value // "" for remove
}

// TestJudge shows the judge histories that it must tell apart: otherwise it would let all pass.
func TestJudge(t *testing.T) {
	op := func(from, to int64, in request, out answer) porcupine.Operation {
		return porcupine.Operation{Input: in, Call: from, Output: out, Return: to}
	}
	a, b := request{key: "k", kind: put, value: "a"}, request{key: "k", kind: put, value: "b"}
	get := request{key: "k", kind: read}
	for name, c := range map[string]struct {
		history []porcupine.Operation
		want    bool
	}{
		"read of the newest":      {[]porcupine.Operation{op(0, 1, a, answer{}), op(2, 3, b, answer{}), op(4, 5, get, answer{value: "b"})}, true},
		"stale read":              {[]porcupine.Operation{op(0, 1, a, answer{}), op(2, 3, b, answer{}), op(4, 5, get, answer{value: "a"})}, false},
		"lost write":              {[]porcupine.Operation{op(0, 1, a, answer{}), op(4, 5, get, answer{})}, false},
		"resurrected":             {[]porcupine.Operation{op(0, 1, a, answer{}), op(2, 3, request{key: "k", kind: remove}, answer{}), op(4, 5, get, answer{value: "a"})}, false},
		"unknown, done late":      {[]porcupine.Operation{op(0, never, a, answer{outcome: unknown}), op(2, 3, get, answer{}), op(4, 5, get, answer{value: "a"})}, true},
		"unknown, never done":     {[]porcupine.Operation{op(0, never, a, answer{outcome: unknown}), op(2, 3, get, answer{})}, true},
		"unknown, done and gone":  {[]porcupine.Operation{op(0, never, a, answer{outcome: unknown}), op(2, 3, get, answer{value: "a"}), op(4, 5, get, answer{})}, false},
		"two made it":             {[]porcupine.Operation{op(0, 5, request{key: "k", kind: putAbsent, value: "a"}, answer{}), op(0, 5, request{key: "k", kind: putAbsent, value: "b"}, answer{})}, false},
		"refused without a cause": {[]porcupine.Operation{op(0, 1, request{key: "k", kind: putAbsent, value: "a"}, answer{outcome: refused})}, false},
		"matched another":         {[]porcupine.Operation{op(0, 1, a, answer{}), op(2, 3, request{key: "k", kind: putMatch, want: "b", value: "c"}, answer{})}, false},
		"keys apart":              {[]porcupine.Operation{op(0, 1, a, answer{}), op(2, 3, request{key: "other", kind: read}, answer{})}, true},
	} {
		if got := porcupine.CheckOperationsTimeout(register, c.history, time.Second); (got == porcupine.Ok) != c.want {
			t.Errorf("%s: %v, want linearizable %t", name, got, c.want)
		}
	}
}
