package objects

import (
	"unicode/utf8"

	"larder/past/wire"
)

// Decoding by hand, for what every GET and every row of a listing opens: by reflection it was a third of a listing. It reads what
// encode gives and little else; where it gives up, decMode has the last word. Byte strings are parts of what was decoded.

const (
	// sumsMax and partsMax bound what the decoder by hand sets aside memory for; encode gives less.
	sumsMax  = 16
	partsMax = 256
)

// decode decodes plain into v, which points to a zero value of a type of this package and may afterwards hold on to plain.
func decode(plain []byte, v any) error {
	r := wire.NewReader(plain)
	switch v := v.(type) {
	case *value:
		if readValue(r, v); r.Done() {
			return nil
		}
		*v = value{}
	case *part:
		if readPart(r, v); r.Done() {
			return nil
		}
		*v = part{}
	}
	return decMode.Unmarshal(plain, v)
}

// readMap reads a map whose keys are small integers in ascending order, and has field read what each is mapped to. field returns
// false for a key that it does not know.
func readMap(r *wire.Reader, field func(k uint64) bool) {
	last := uint64(0)
	for n := r.Count(wire.MajorMap); n > 0 && r.OK(); n-- {
		k := r.Head(wire.MajorUint)
		if k <= last || !field(k) {
			r.Fail()
			return
		}
		last = k
	}
}

func readText(r *wire.Reader) string {
	s := r.Text()
	if !utf8.ValidString(s) {
		r.Fail()
	}
	return s
}

func readValue(r *wire.Reader, v *value) {
	readMap(r, func(k uint64) bool {
		switch k {
		case 1:
			r.Fixed(v.Op[:])
		case 2:
			v.ETag = readText(r)
		case 3:
			readMetadata(r, &v.Metadata)
		case 4:
			v.Checksums = readSums(r)
		case 5:
			v.Owner = readText(r)
		case 6:
			v.Body = new(body)
			readBody(r, v.Body)
		case 7:
			v.Parts = readParts(r)
		case 8:
			v.Table = new(body)
			readBody(r, v.Table)
		case 9:
			v.PartsCount = int(r.Int())
		case 10:
			v.Upload = readText(r)
		case 11:
			v.Length = r.Int()
		default:
			return false
		}
		return true
	})
}

func readMetadata(r *wire.Reader, m *metadata) {
	texts := [...]*string{1: &m.ContentType, &m.ContentEncoding, &m.ContentDisposition, &m.ContentLanguage, &m.CacheControl, &m.Expires,
		&m.WebsiteRedirect, &m.StorageClass}
	readMap(r, func(k uint64) bool {
		switch {
		case k < uint64(len(texts)):
			*texts[k] = readText(r)
		case k == 9:
			m.User = readTexts(r)
		default:
			return false
		}
		return true
	})
}

// readTexts reads a map of texts; twice the same key is refused.
func readTexts(r *wire.Reader) map[string]string {
	n := r.Count(wire.MajorMap)
	texts := make(map[string]string, min(n, 64))
	for ; n > 0 && r.OK(); n-- {
		k := readText(r)
		if _, twice := texts[k]; twice {
			r.Fail()
		}
		texts[k] = readText(r)
	}
	return texts
}

func readSums(r *wire.Reader) []sum {
	n := r.Count(wire.MajorArray)
	if n > sumsMax {
		r.Fail()
		return nil
	}
	sums := make([]sum, n)
	for i := range sums {
		s := &sums[i]
		readMap(r, func(k uint64) bool {
			switch k {
			case 1:
				s.Algorithm = readText(r)
			case 2:
				s.Value = readText(r)
			case 3:
				s.Type = readText(r)
			default:
				return false
			}
			return true
		})
	}
	return sums
}

func readParts(r *wire.Reader) []part {
	n := r.Count(wire.MajorArray)
	if n > partsMax {
		r.Fail()
		return nil
	}
	parts := make([]part, n)
	for i := range parts {
		readPart(r, &parts[i])
	}
	return parts
}

func readPart(r *wire.Reader, p *part) {
	readMap(r, func(k uint64) bool {
		switch k {
		case 1:
			p.Number = int(r.Int())
		case 2:
			p.ETag = readText(r)
		case 3:
			p.Modified = r.Int()
		case 4:
			p.Checksums = readSums(r)
		case 5:
			readBody(r, &p.Body)
		default:
			return false
		}
		return true
	})
}

func readBody(r *wire.Reader, b *body) {
	readMap(r, func(k uint64) bool {
		switch k {
		case 1:
			r.Fixed(b.Data[:])
		case 2:
			r.Fixed(b.Secret[:])
		case 3:
			b.Length = r.Int()
		case 4:
			b.Inline = r.Bool()
		case 5:
			b.Manifest = r.Bool()
		case 6:
			b.Rows = r.Bytes()
		default:
			return false
		}
		return true
	})
}
