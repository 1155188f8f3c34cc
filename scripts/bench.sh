#!/usr/bin/env bash
# The S3 table of docs/figures.md, on this machine, in one run: one Larder node, a four-node Larder on loopback, and, for comparison,
# versitygw over a directory, which keeps one copy and syncs nothing. Everything lies in a directory of its own, removed at the end.
#
#   BENCH_DURATION=5s BENCH_LOADS=put4k,get4k,... scripts/bench.sh BINARY
set -euo pipefail
larder=$(realpath "${1:?usage: bench.sh BINARY}")
duration=${BENCH_DURATION:-5s}
loads=${BENCH_LOADS:-put4k,get4k,put1m,get1m,put64m,get64m,list,delete}
port=${BENCH_PORT:-23400}
versitygw=github.com/versity/versitygw/cmd/versitygw@v1.8.0
dir=$(mktemp -d "${TMPDIR:-/tmp}/larder-bench.XXXXXX")
server=
stop() {
	if [ -n "$server" ]; then
		kill "$server" 2>/dev/null || true
		wait "$server" 2>/dev/null || true
		server=
	fi
}
trap 'stop; rm -rf "$dir"' EXIT

# await LINE FILE: waits a minute for a line.
await() {
	for _ in $(seq 300); do
		grep -q "$1" "$2" 2>/dev/null && return
		kill -0 "$server" 2>/dev/null || break
		sleep 0.2
	done
	echo "bench: not started:" >&2
	cat "$2" >&2
	return 1
}
# load NAME ENDPOINT PIDS FLAGS...: runs the loads, prints the table, keeps the JSON, and says how much memory the processes had at most.
load() {
	local name=$1 endpoint=$2 pids=$3
	shift 3
	"$larder" bench --endpoint "$endpoint" --pid "$pids" --loads "$loads" --duration "$duration" --json "$@" >"$dir/$name.json"
	for pid in ${pids//,/ }; do
		awk -v pid="$pid" '/VmHWM/ {printf "  process %d: at most %d MiB in memory\n", pid, $2 / 1024}' "/proc/$pid/status"
	done
}

echo "== one Larder node"
"$larder" serve --data "$dir/one" --s3 "127.0.0.1:$port" --overlay "127.0.0.1:$((port + 1))" --admin "127.0.0.1:$((port + 2))" --log-level warn >"$dir/one.log" 2>&1 &
server=$!
await '^larder: ready' "$dir/one.log"
load one "http://127.0.0.1:$port" "$server" --profile "$dir/one/credentials"
stop

echo "== four Larder nodes"
"$larder" dev --nodes 4 --data "$dir/four" --s3-base-port "$((port + 10))" --log-level warn >"$dir/four.log" 2>&1 &
server=$!
await '^larder: ready$' "$dir/four.log"
pids=$(grep -o '"pid": *[0-9]*' "$dir/four/dev.json" | grep -o '[0-9]*' | paste -sd,)
load four "http://127.0.0.1:$((port + 10))" "$pids" --profile "$(ls "$dir"/four/credentials "$dir"/four/*/credentials 2>/dev/null | head -1)"
stop

compare=()
if GOBIN="$dir/bin" "${GO:-go}" install "$versitygw" >"$dir/install.log" 2>&1; then
	echo "== versitygw (one copy, no sync)"
	mkdir "$dir/posix"
	ROOT_ACCESS_KEY=bench ROOT_SECRET_KEY=bench-secret "$dir/bin/versitygw" --quiet --port "127.0.0.1:$((port + 20))" posix "$dir/posix" >"$dir/vgw.log" 2>&1 &
	server=$!
	for _ in $(seq 100); do
		(: <"/dev/tcp/127.0.0.1/$((port + 20))") 2>/dev/null && break
		sleep 0.1
	done
	load versitygw "http://127.0.0.1:$((port + 20))" "$server" --access-key bench --secret-key bench-secret
	stop
	compare=("$dir/versitygw.json")
else
	echo "== versitygw: could not be built here, so there is nothing to compare with ($(tail -1 "$dir/install.log"))"
fi
"$larder" bench compare "$dir/one.json" "$dir/four.json" "${compare[@]}"
