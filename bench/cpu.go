package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// clockTick is the unit of /proc/PID/stat: USER_HZ is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuTime is how much processor time processes have used, in user and kernel mode together. It needs Linux's /proc.
func cpuTime(pids []int) (total time.Duration, err error) {
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("bench: processor time: %w", err)
		}
		ticks, err := parseStat(b)
		if err != nil {
			return 0, fmt.Errorf("bench: processor time of %d: %w", pid, err)
		}
		total += time.Duration(ticks) * clockTick
	}
	return total, nil
}

// parseStat returns utime + stime (proc(5): fields 14 and 15, counted from the process id; the second field is a name in
// parentheses that may hold anything).
func parseStat(b []byte) (ticks int64, err error) {
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%d fields", len(fields))
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return ticks, nil
}
