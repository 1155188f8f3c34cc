package sigv4

import (
	"sort"
	"strings"
)

// Param is one parameter of a query string, decoded.
type Param struct {
	Name, Value string
	Bare        bool // there was no "="
}

// Query is a query string as a list, in the order sent.
type Query []Param

// ParseQuery decodes a raw query string. "+" stands for a space, as in HTML forms; clients that sign write %2B for a plus.
// The only error is ErrURI, for a broken escape.
func ParseQuery(raw string) (Query, error) {
	if raw == "" {
		return nil, nil
	}
	q := make(Query, 0, strings.Count(raw, "&")+1)
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		n, ok1 := Unescape(name, true)
		v, ok2 := Unescape(value, true)
		if !ok1 || !ok2 {
			return nil, fail(ErrURI, "")
		}
		q = append(q, Param{Name: n, Value: v, Bare: !found})
	}
	return q, nil
}

// Lookup returns the first value of a parameter, and whether the parameter is there.
func (q Query) Lookup(name string) (string, bool) {
	for _, p := range q {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// Get returns the first value of a parameter, "" if there is none.
func (q Query) Get(name string) string {
	v, _ := q.Lookup(name)
	return v
}

// canonical returns the canonical query string, without X-Amz-Signature if the signature itself travels in the query.
func (q Query) canonical(presigned bool) string {
	pairs := make([][2]string, 0, len(q))
	for _, p := range q {
		if presigned && p.Name == "X-Amz-Signature" {
			continue
		}
		pairs = append(pairs, [2]string{Escape(p.Name, false), Escape(p.Value, false)})
	}
	sort.Slice(pairs, func(i, j int) bool {
		if pairs[i][0] != pairs[j][0] {
			return pairs[i][0] < pairs[j][0]
		}
		return pairs[i][1] < pairs[j][1]
	})
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0])
		b.WriteByte('=')
		b.WriteString(p[1])
	}
	return b.String()
}

const upperHex = "0123456789ABCDEF"

// Escape percent-encodes s as Signature Version 4 wants it: all bytes but A-Z a-z 0-9 - . _ ~, and "/" if keepSlash.
func Escape(s string, keepSlash bool) string {
	n := 0
	for i := 0; i < len(s); i++ {
		if !unreserved(s[i], keepSlash) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved(c, keepSlash) {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(b)
}

func unreserved(c byte, keepSlash bool) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~' || c == '/' && keepSlash
}

// Unescape undoes percent-encoding, and "+" for a space if plus is set. ok is false if an escape is broken.
func Unescape(s string, plus bool) (_ string, ok bool) {
	if !strings.Contains(s, "%") && !(plus && strings.Contains(s, "+")) {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			b = append(b, byte(hi<<4|lo))
			i += 2
		case c == '+' && plus:
			b = append(b, ' ')
		default:
			b = append(b, c)
		}
	}
	return string(b), true
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
