package gateway

import (
	"strconv"
	"strings"
)

// byteRange is n bytes from offset off.
type byteRange struct{ off, n int64 }

// header returns the Content-Range of r within size bytes.
func (r byteRange) header(size int64) string {
	return "bytes " + itoa(r.off) + "-" + itoa(r.off+r.n-1) + "/" + itoa(size)
}

// parseRange reads a Range header for an object of size bytes. found is false if the whole object is to be sent: the header
// is absent, malformed, or asks for several ranges, which S3 ignores (RFC 9110 §14.2 lets a server). The error is InvalidRange.
func parseRange(value string, size int64) (r byteRange, found bool, err error) {
	spec, ok := strings.CutPrefix(strings.TrimSpace(value), "bytes=")
	if !ok || strings.Contains(spec, ",") {
		return r, false, nil
	}
	first, last, ok := strings.Cut(spec, "-")
	if !ok {
		return r, false, nil
	}
	unsatisfiable := &Error{Code: "InvalidRange", Header: [2]string{"Content-Range", "bytes */" + itoa(size)},
		Facts: [][2]string{{"RangeRequested", value}, {"ActualObjectSize", itoa(size)}}}
	if first == "" { // the last n bytes
		n, ok := parseOffset(last)
		switch {
		case !ok:
			return r, false, nil
		case n == 0:
			return r, false, unsatisfiable
		case size == 0: // satisfiable (RFC 9110 §14.1.2), but no Content-Range can say of what
			return r, false, nil
		}
		n = min(n, size)
		return byteRange{size - n, n}, true, nil
	}
	off, ok := parseOffset(first)
	if !ok {
		return r, false, nil
	}
	end := size - 1
	if last != "" {
		n, ok := parseOffset(last)
		if !ok || n < off {
			return r, false, nil
		}
		end = min(end, n)
	}
	if off >= size {
		return r, false, unsatisfiable
	}
	return byteRange{off, end - off + 1}, true, nil
}

// parseOffset reads digits and nothing else; numbers beyond 63 bits are the largest one.
func parseOffset(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}
