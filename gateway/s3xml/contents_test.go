package s3xml

import (
	"encoding/xml"
	"math/rand/v2"
	"testing"
	"time"
)

// By hand and by reflection are twins.
func TestContentsAreAsMarshalGivesThem(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		const odd = "ab c/&<>\"'\r\n\té\x01\u2028\ufffe\xff"
		var b []byte
		for range r.IntN(12) {
			b = append(b, odd[r.IntN(len(odd))])
		}
		return string(b)
	}
	for range 500 {
		entries := make([]ObjectEntry, r.IntN(3))
		for i := range entries {
			entries[i] = ObjectEntry{Key: Text(text()), LastModified: Time(time.UnixMilli(r.Int64N(1 << 42))), ETag: text(), ChecksumType: text(),
				Size: r.Int64() >> r.IntN(63), StorageClass: text()}
			for range r.IntN(3) {
				entries[i].ChecksumAlgorithm = append(entries[i].ChecksumAlgorithm, "x"+text())
			}
			if r.IntN(2) == 0 {
				entries[i].Owner = &Owner{ID: text(), DisplayName: text()}
			}
		}
		want, err := xml.Marshal(struct {
			XMLName  xml.Name `xml:"R"`
			A        string
			Contents []ObjectEntry
			B        int
		}{Contents: entries})
		if err != nil {
			t.Fatal(err)
		}
		got, err := xml.Marshal(struct {
			XMLName xml.Name `xml:"R"`
			A       string
			Contents
			B int
		}{Contents: NewContents(entries)})
		if err != nil || string(got) != string(want) {
			t.Fatalf("%v\n got %s\nwant %s", err, got, want)
		}
	}
}

func BenchmarkContents(b *testing.B) {
	entries := make([]ObjectEntry, 1000)
	for i := range entries {
		entries[i] = ObjectEntry{Key: "put4k/0001234", ETag: `"d41d8cd98f00b204e9800998ecf8427e"`, ChecksumAlgorithm: []string{"CRC64NVME"}, ChecksumType: "FULL_OBJECT",
			Size: 4096, StorageClass: "STANDARD"}
	}
	b.Run("by hand", func(b *testing.B) {
		for b.Loop() {
			NewContents(entries)
		}
	})
	b.Run("by reflection", func(b *testing.B) {
		for b.Loop() {
			_, _ = xml.Marshal(entries)
		}
	})
}
