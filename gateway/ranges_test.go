package gateway

import "testing"

func TestParseRange(t *testing.T) {
	const refused = "InvalidRange"
	for _, c := range []struct {
		header string
		size   int64
		want   byteRange
		found  bool
		code   string
	}{
		{"bytes=0-9", 100, byteRange{0, 10}, true, ""},
		{"bytes=0-0", 1, byteRange{0, 1}, true, ""},
		{"bytes=90-", 100, byteRange{90, 10}, true, ""},
		{"bytes=90-1000", 100, byteRange{90, 10}, true, ""},
		{"bytes=-5", 100, byteRange{95, 5}, true, ""},
		{"bytes=-500", 100, byteRange{0, 100}, true, ""},
		{"bytes=0-99999999999999999999", 100, byteRange{0, 100}, true, ""},
		{"bytes=100-", 100, byteRange{}, false, refused},
		{"bytes=99999999999999999999-", 100, byteRange{}, false, refused},
		{"bytes=-0", 100, byteRange{}, false, refused},
		{"bytes=0-0", 0, byteRange{}, false, refused},
		{"bytes=-5", 0, byteRange{}, false, ""},
		{"bytes=0-1,3-4", 100, byteRange{}, false, ""},
		{"bytes=9-5", 100, byteRange{}, false, ""},
		{"bytes=a-b", 100, byteRange{}, false, ""},
		{"bytes= 1-2", 100, byteRange{}, false, ""},
		{"bytes=+1-2", 100, byteRange{}, false, ""},
		{"bytes=-", 100, byteRange{}, false, ""},
		{"bytes=5", 100, byteRange{}, false, ""},
		{"items=0-1", 100, byteRange{}, false, ""},
		{"", 100, byteRange{}, false, ""},
	} {
		got, found, err := parseRange(c.header, c.size)
		code := ""
		if err != nil {
			code = asError(err).Code
			if asError(err).Header[1] != "bytes */"+itoa(c.size) {
				t.Errorf("%q of %d: header %q", c.header, c.size, asError(err).Header)
			}
		}
		if code != c.code || found != c.found || found && got != c.want {
			t.Errorf("%q of %d: %+v %v %q", c.header, c.size, got, found, code)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("bytes=0-9", int64(100))
	f.Add("bytes=-1", int64(1))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		r, found, err := parseRange(header, size)
		if found && (err != nil || r.off < 0 || r.n <= 0 || r.off+r.n > size || r.off+r.n < 0) {
			t.Fatalf("%q of %d: %+v", header, size, r)
		}
	})
}
