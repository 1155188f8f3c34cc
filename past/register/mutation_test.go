package register

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// mutation is one rule left out of the code: an edit that a test must catch.
type mutation struct {
	name string
	// test is a pattern of the directed tests that must fail; plan names the plan of TestLinearizable that must fail, if that finds
	// it within seconds. At least one is given.
	test, plan string
	edits      []edit
}

// edit replaces text that occurs once in file.
type edit struct{ file, from, to string }

// mutantCheckFor gives a plan a minute; most mutants fall within a second. The seeds are always the same.
const mutantCheckFor = "720s"

func one(file, from, to string) []edit { return []edit{{file, from, to}} }

// TestMutations builds the package with each mutation in turn and runs the tests that must fail.
func TestMutations(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the package once for each mutation")
	}
	if os.Getenv("LARDER_MUTATED") != "" {
		t.Skip("this is a mutant")
	}
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			if m.test == "" && m.plan == "" {
				t.Fatal("no test is named")
			}
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			binary := m.build(t, i)
			if m.test != "" {
				mustFail(t, binary, "-test.run", "^("+m.test+")$")
			}
			if m.plan != "" {
				mustFail(t, binary, "-test.run", "^TestLinearizable$/^"+strings.ReplaceAll(m.plan, " ", "_")+"$", "-check", mutantCheckFor)
			}
		})
	}
}

// build compiles the mutated package's tests. A mutant that does not compile proves nothing and is an error.
func (m *mutation) build(t *testing.T, i int) (binary string) {
	dir := t.TempDir()
	mutated := map[string]string{}
	for _, e := range m.edits {
		text, ok := mutated[e.file]
		if !ok {
			raw, err := os.ReadFile(e.file)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
		if n := strings.Count(text, e.from); n != 1 {
			t.Fatalf("%s has %q %d times, want once", e.file, e.from, n)
		}
		mutated[e.file] = strings.Replace(text, e.from, e.to, 1)
	}
	replace := map[string]string{}
	for file, text := range mutated {
		here, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		replace[here] = filepath.Join(dir, file)
		if err := os.WriteFile(replace[here], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "mutant.test")
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, out)
	}
	return binary
}

// mustFail runs a mutant, which must report a failed test in time.
func mustFail(t *testing.T, binary string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	run := exec.CommandContext(ctx, binary, append(args, "-test.failfast")...)
	run.Env = append(os.Environ(), "LARDER_MUTATED=1")
	begin := time.Now()
	out, err := run.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic: ") {
		t.Errorf("survives %v: %v\n%s", args, err, tail(string(out)))
		return
	}
	t.Logf("%v: caught in %v", args, time.Since(begin).Round(time.Millisecond))
}

func tail(s string) string { return s[max(0, len(s)-600):] }
