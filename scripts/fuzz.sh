#!/usr/bin/env bash
# Fuzzes every Fuzz function of the module, one after another, for FUZZTIME each (1m). Ends at the first that fails; go test has then
# written the input under testdata/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
go=${GO:-go}
found=0
# A package's directory, and the names of its targets.
while read -r file; do
	package=./$(dirname "${file#./}")
	while read -r target; do
		found=$((found + 1))
		echo "fuzz: $target in $package"
		"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" "$package" </dev/null
	done < <(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file")
done < <(grep -rlE '^func Fuzz' --include='*_test.go' . | sort)
echo "fuzz: $found targets"
[ "$found" -gt 0 ]
