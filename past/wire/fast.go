package wire

import "encoding/binary"

// Encoding and decoding by hand, for what is encoded for every request and every row of a listing: reflection costs ten times as much
// as the bytes. The Append functions give exactly what Marshal gives. Reader reads what they give and little else; what it does not
// read may still be right, and Unmarshal has the last word.

// Major types of CBOR (RFC 8949 §3.1).
const (
	MajorUint  = 0
	MajorNeg   = 1
	MajorBytes = 2
	MajorText  = 3
	MajorArray = 4
	MajorMap   = 5
)

const (
	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6
)

// AppendHead appends the head of an item: its major type and its value, length or count.
func AppendHead(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= 0xff:
		return append(b, major|24, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// AppendInt appends an integer.
func AppendInt(b []byte, n int64) []byte {
	if n < 0 {
		return AppendHead(b, MajorNeg, uint64(-(n + 1)))
	}
	return AppendHead(b, MajorUint, uint64(n))
}

// AppendBytes appends a byte string, null if it is nil.
func AppendBytes(b, s []byte) []byte {
	if s == nil {
		return append(b, cborNull)
	}
	return append(AppendHead(b, MajorBytes, uint64(len(s))), s...)
}

// AppendText appends a text string.
func AppendText(b []byte, s string) []byte {
	return append(AppendHead(b, MajorText, uint64(len(s))), s...)
}

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, cborTrue)
	}
	return append(b, cborFalse)
}

// AppendNull appends null, which nil slices are.
func AppendNull(b []byte) []byte { return append(b, cborNull) }

// Reader reads items one after the other. After the first that is not as asked for it gives zero values, and OK returns false.
type Reader struct {
	b   []byte
	bad bool
}

// NewReader returns a Reader of b, which the byte strings that it returns are parts of.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// OK reports whether everything was as asked for so far. Done is OK with nothing left.
func (r *Reader) OK() bool   { return !r.bad }
func (r *Reader) Done() bool { return !r.bad && len(r.b) == 0 }

// Fail marks what was read as not understood.
func (r *Reader) Fail() { r.bad, r.b = true, nil }

// Head reads a head of one major type, in its shortest form.
func (r *Reader) Head(major byte) uint64 {
	if len(r.b) == 0 || r.b[0]>>5 != major {
		r.Fail()
		return 0
	}
	low := r.b[0] & 31
	if low < 24 {
		r.b = r.b[1:]
		return uint64(low)
	}
	size := 1 << (low - 24)
	if low > 27 || len(r.b) < 1+size {
		r.Fail()
		return 0
	}
	var n, least uint64
	switch size {
	case 1:
		n, least = uint64(r.b[1]), 24
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(r.b[1:])), 1<<8
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(r.b[1:])), 1<<16
	default:
		n, least = binary.BigEndian.Uint64(r.b[1:]), 1<<32
	}
	if n < least {
		r.Fail()
		return 0
	}
	r.b = r.b[1+size:]
	return n
}

// Count reads the head of an array or map of at most as many items as there are bytes left, so that nobody is made to set aside
// memory for what did not come.
func (r *Reader) Count(major byte) int {
	n := r.Head(major)
	if n > uint64(len(r.b)) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Int reads an integer that is not negative and fits an int64.
func (r *Reader) Int() int64 {
	n := r.Head(MajorUint)
	if n > 1<<63-1 {
		r.Fail()
		return 0
	}
	return int64(n)
}

// Null reads null, if it comes next.
func (r *Reader) Null() bool {
	if len(r.b) > 0 && r.b[0] == cborNull {
		r.b = r.b[1:]
		return true
	}
	return false
}

// Bytes reads a byte string, or null as nil. It is part of what the Reader reads.
func (r *Reader) Bytes() []byte {
	if r.Null() {
		return nil
	}
	return r.take(r.Head(MajorBytes))
}

// Text reads a text string. Its encoding is not checked.
func (r *Reader) Text() string { return string(r.take(r.Head(MajorText))) }

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if len(r.b) == 0 || r.b[0] != cborFalse && r.b[0] != cborTrue {
		r.Fail()
		return false
	}
	v := r.b[0] == cborTrue
	r.b = r.b[1:]
	return v
}

// Fixed reads a byte string of exactly len(dst) bytes into dst.
func (r *Reader) Fixed(dst []byte) {
	if b := r.take(r.Head(MajorBytes)); len(b) == len(dst) {
		copy(dst, b)
	} else {
		r.Fail()
	}
}

func (r *Reader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.Fail()
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}
