package s3xml

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"time"
)

// Contents are the objects of a listing, written by hand: through reflection a thousand of them cost as much as all the rest of
// answering a listing. They are what xml.Marshal makes of ObjectEntry.
type Contents struct {
	XML []byte `xml:",innerxml"`
}

// NewContents writes entries.
func NewContents(entries []ObjectEntry) Contents {
	var b bytes.Buffer
	b.Grow(len(entries) * 320) // about what one takes
	for i := range entries {
		entries[i].write(&b)
	}
	return Contents{b.Bytes()}
}

func (e *ObjectEntry) write(b *bytes.Buffer) {
	b.WriteString("<Contents><Key>")
	writeEscaped(b, string(e.Key))
	b.WriteString("</Key><LastModified>")
	b.Write(time.Time(e.LastModified).UTC().AppendFormat(b.AvailableBuffer(), timeFormat))
	b.WriteString("</LastModified>")
	writeElement(b, "ETag", e.ETag)
	for _, a := range e.ChecksumAlgorithm {
		writeElement(b, "ChecksumAlgorithm", a)
	}
	if e.ChecksumType != "" {
		writeElement(b, "ChecksumType", e.ChecksumType)
	}
	b.WriteString("<Size>")
	b.Write(strconv.AppendInt(b.AvailableBuffer(), e.Size, 10))
	b.WriteString("</Size>")
	if e.Owner != nil {
		b.WriteString("<Owner>")
		writeElement(b, "ID", e.Owner.ID)
		if e.Owner.DisplayName != "" {
			writeElement(b, "DisplayName", e.Owner.DisplayName)
		}
		b.WriteString("</Owner>")
	}
	writeElement(b, "StorageClass", e.StorageClass)
	b.WriteString("</Contents>")
}

func writeElement(b *bytes.Buffer, name, text string) {
	b.WriteByte('<')
	b.WriteString(name)
	b.WriteByte('>')
	if plainLen(text) == len(text) {
		b.WriteString(text)
	} else {
		_ = xml.EscapeText(b, []byte(text)) // a bytes.Buffer takes everything
	}
	b.WriteString("</")
	b.WriteString(name)
	b.WriteByte('>')
}

// plainLen is how many bytes at the beginning of s no kind of escaping changes.
func plainLen(s string) int {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '&' || c == '<' || c == '>' || c == '"' || c == '\'' {
			return i
		}
	}
	return len(s)
}
