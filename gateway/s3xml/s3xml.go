// Package s3xml is the XML bodies of S3's requests and answers as Go types, and their careful decoding. It knows what the
// documents look like, not what they mean: limits on part numbers or names are the gateway's.
//
// The types follow the Amazon S3 API reference, version 2006-03-01. testdata holds one golden document of each.
package s3xml

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// Header starts every document, and Namespace is that of all answers but errors.
const (
	Header    = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
)

// ErrMalformed is returned by Decode for whatever is not the document it was asked for.
var ErrMalformed = errors.New("malformed XML")

// ErrTooLarge is returned by Decode for a document longer than its limit.
var ErrTooLarge = errors.New("XML document too large")

// maxDepth bounds how deep elements may nest; S3's own documents need 6.
const maxDepth = 16

// Decode reads exactly one document of at most limit bytes from r into v, whose XMLName names the root in any namespace.
// It refuses document type declarations and with them all entities but the five of XML, nesting deeper than 16, and bytes
// after the root. Errors wrap ErrMalformed, ErrTooLarge, or r's own error.
func Decode(r io.Reader, limit int64, v any) error {
	src := &limited{r: r, left: limit}
	tokens := &guard{inner: xml.NewDecoder(src)}
	d := xml.NewTokenDecoder(tokens)
	err := d.Decode(v)
	if err == nil {
		for err == nil { // nothing but blanks and comments may follow
			var t xml.Token
			if t, err = d.Token(); err == nil {
				if c, ok := t.(xml.CharData); ok && strings.TrimSpace(string(c)) == "" {
					continue
				}
				if _, ok := t.(xml.Comment); ok {
					continue
				}
				return fmt.Errorf("%w: something follows the root element", ErrMalformed)
			}
		}
		if err == io.EOF && src.err == nil {
			return nil
		}
	}
	if src.err != nil {
		return src.err
	}
	return fmt.Errorf("%w: %v", ErrMalformed, err)
}

// limited reads up to left bytes and remembers why it stopped short.
type limited struct {
	r    io.Reader
	left int64
	err  error
}

func (l *limited) Read(p []byte) (int, error) {
	if l.err != nil {
		return 0, l.err
	}
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		l.err = ErrTooLarge
		return 0, l.err
	}
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

// guard passes tokens on while they are within bounds.
type guard struct {
	inner *xml.Decoder
	depth int
}

func (g *guard) Token() (xml.Token, error) {
	t, err := g.inner.RawToken()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case xml.StartElement:
		if g.depth++; g.depth > maxDepth {
			return nil, errors.New("elements nest too deep")
		}
	case xml.EndElement:
		g.depth--
	case xml.Directive:
		return nil, errors.New("declarations are not allowed")
	case xml.ProcInst:
		if t.Target != "xml" {
			return nil, errors.New("processing instructions are not allowed")
		}
	}
	return xml.CopyToken(t), nil
}

// Marshal returns v as a document.
func Marshal(v any) ([]byte, error) {
	b, err := xml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("s3xml: marshal %T: %w", v, err)
	}
	return append([]byte(Header), b...), nil
}

// Text is a string that may hold any character, such as an object key. S3 writes characters that XML 1.0 has no place for as
// numeric references all the same; so do we, and clients that want well-formed listings ask for encoding-type=url.
type Text string

// MarshalXML implements xml.Marshaler.
func (t Text) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return e.EncodeElement(struct {
		Inner string `xml:",innerxml"`
	}{escape(string(t))}, start)
}

func escape(s string) string {
	var b strings.Builder
	writeEscaped(&b, s)
	return b.String()
}

// textWriter is a strings.Builder or a bytes.Buffer.
type textWriter interface {
	io.Writer
	io.StringWriter
}

func writeEscaped(b textWriter, s string) {
	for i := 0; i < len(s); {
		if n := plainLen(s[i:]); n > 0 {
			_, _ = b.WriteString(s[i : i+n])
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '&':
			_, _ = b.WriteString("&amp;")
		case r == '<':
			_, _ = b.WriteString("&lt;")
		case r == '>':
			_, _ = b.WriteString("&gt;")
		case r == '"':
			_, _ = b.WriteString("&quot;")
		case r < 0x20 || r == 0xfffe || r == 0xffff:
			fmt.Fprintf(b, "&#x%x;", r)
		default:
			_, _ = b.WriteString(s[i : i+n])
		}
		i += n
	}
}

const timeFormat = "2006-01-02T15:04:05.000Z"

// Time is written as S3 writes it: UTC, with milliseconds.
type Time time.Time

// MarshalText implements encoding.TextMarshaler.
func (t Time) MarshalText() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format(timeFormat)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler; it takes every RFC 3339 time, and RFC 1123.
func (t *Time) UnmarshalText(b []byte) error {
	for _, format := range []string{time.RFC3339, time.RFC1123} {
		if v, err := time.Parse(format, string(b)); err == nil {
			*t = Time(v)
			return nil
		}
	}
	return fmt.Errorf("%w: time %q", ErrMalformed, b)
}
