package gatewaytest

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"larder/gateway"
	"larder/gateway/checksum"
)

func (f *fixture) upload(key string, in gateway.UploadInput) gateway.Upload {
	f.Helper()
	u, err := f.b.CreateUpload(f.ctx, bucketName, key, in)
	if err != nil {
		f.Fatalf("create upload: %v", err)
	}
	return u
}

// part stores a part and returns how a Complete names it.
func (f *fixture) part(u gateway.Upload, number int, data []byte) gateway.CompletedPart {
	f.Helper()
	in := input(data, nil)
	in.Digest = newDigest(u.ChecksumAlgorithm)
	p, err := f.b.PutPart(f.ctx, bucketName, u.Key, u.ID, number, in)
	if err != nil {
		f.Fatalf("put part %d: %v", number, err)
	}
	if want := sumsOf(data, u.ChecksumAlgorithm); p.Number != number || p.ETag != want.ETag || p.Size != int64(len(data)) || p.Modified.IsZero() {
		f.Fatalf("part %+v", p)
	}
	return gateway.CompletedPart{Number: number, ETag: p.ETag, Checksums: []gateway.Checksum{{Algorithm: p.Checksums[0].Algorithm, Value: p.Checksums[0].Value}}}
}

func (f *fixture) complete(u gateway.Upload, parts ...gateway.CompletedPart) (gateway.Object, error) {
	return f.b.Complete(f.ctx, bucketName, u.Key, u.ID, gateway.CompleteInput{Parts: parts, Size: -1})
}

func testMultipart(f *fixture) {
	first, second, last := pattern(gateway.MinPart, 1), pattern(gateway.MinPart+17, 2), pattern(100, 3)
	whole := slices.Concat(first, second, last)
	kinds := []gateway.UploadInput{
		{},
		{ChecksumAlgorithm: "CRC32", ChecksumType: checksum.Composite},
		{ChecksumAlgorithm: "CRC32C", ChecksumType: checksum.FullObject},
		{ChecksumAlgorithm: "SHA256", ChecksumType: checksum.Composite},
	}
	if testing.Short() {
		kinds = kinds[:2]
	}
	for _, in := range kinds {
		in.Owner, in.Metadata = "alice", gateway.Metadata{ContentType: "text/m", User: map[string]string{"m": "1"}}
		key := "multi" + in.ChecksumAlgorithm
		f.put(key, []byte("before"))
		u := f.upload(key, in)
		if got, err := f.b.Upload(f.ctx, bucketName, key, u.ID); err != nil || got.ChecksumAlgorithm != in.ChecksumAlgorithm || got.ChecksumType != in.ChecksumType ||
			got.Metadata.ContentType != "text/m" || got.Initiated.IsZero() {
			f.Fatalf("upload %+v, %v", got, err)
		}
		// Numbers have gaps, parts come in any order, and the last one of a number counts.
		c := f.part(u, 900, last)
		f.part(u, 5, []byte("not this one"))
		b := f.part(u, 5, second)
		a := f.part(u, 2, first)
		f.part(u, 7, []byte("left out"))
		f.wantBytes(key, []byte("before"))
		o, err := f.complete(u, a, b, c)
		if err != nil {
			f.Fatalf("complete: %v", err)
		}
		got := f.wantBytes(key, whole)
		if got.ETag != o.ETag || len(o.ETag) != 34 || o.ETag[32:] != "-3" || got.PartsCount != 3 || got.Metadata.User["m"] != "1" || got.Size != int64(len(whole)) || got.Owner != "alice" {
			f.Errorf("object %+v", got)
		}
		if in.ChecksumType == checksum.FullObject && (len(got.Checksums) != 1 || got.Checksums[0] != sumsOf(whole, in.ChecksumAlgorithm).Checksums[0]) {
			f.Errorf("full-object checksum %+v", got.Checksums)
		}
		if in.ChecksumType == checksum.Composite && (len(got.Checksums) != 1 || got.Checksums[0].Type != checksum.Composite || got.Checksums[0].Value[len(got.Checksums[0].Value)-2:] != "-3") {
			f.Errorf("composite checksum %+v", got.Checksums)
		}
		src := f.open(key)
		var off int64
		for i, data := range [][]byte{first, second, last} {
			p, at, ok := src.Part(i + 1)
			if !ok || at != off || p.Size != int64(len(data)) || !bytes.Equal(f.read(src, at, p.Size), data) {
				f.Errorf("part %d is %+v at %d, %v", i+1, p, at, ok)
			}
			off += int64(len(data))
		}
		if _, _, ok := src.Part(4); ok {
			f.Error("there is a fourth part")
		}
		page, err := f.b.ListUploads(f.ctx, bucketName, gateway.UploadQuery{Max: 10})
		if err != nil || len(page.Uploads) != 0 {
			f.Errorf("uploads after Complete: %+v, %v", page, err)
		}
	}
}

func testCompleteErrors(f *fixture) {
	u := f.upload("k", gateway.UploadInput{Owner: "alice"})
	small, big := f.part(u, 1, []byte("small")), f.part(u, 2, pattern(gateway.MinPart, 1))
	_, err := f.complete(u, small, big)
	f.wantErr(err, gateway.ErrPartTooSmall)
	_, err = f.complete(u, big, small)
	f.wantErr(err, gateway.ErrInvalidPartOrder)
	_, err = f.complete(u, big, big)
	f.wantErr(err, gateway.ErrInvalidPartOrder)
	_, err = f.complete(u, gateway.CompletedPart{Number: 3, ETag: small.ETag})
	f.wantErr(err, gateway.ErrInvalidPart)
	_, err = f.complete(u, gateway.CompletedPart{Number: 1, ETag: big.ETag})
	f.wantErr(err, gateway.ErrInvalidPart)
	for _, in := range []gateway.CompleteInput{
		{Parts: []gateway.CompletedPart{small}, Size: 4},
		{Parts: []gateway.CompletedPart{small}, Size: -1, Checksum: gateway.Checksum{Algorithm: checksum.Default, Value: "AAAAAAAAAAA="}},
	} {
		var e *gateway.Error
		if _, err := f.b.Complete(f.ctx, bucketName, "k", u.ID, in); !errors.As(err, &e) {
			f.Errorf("claims %+v: %v, want a *gateway.Error", in, err)
		}
	}
	f.wantMissing("k")
	if _, err = f.complete(u, small); err != nil { // all these failures leave the upload as it was
		f.Fatal(err)
	}
	f.wantBytes("k", []byte("small"))
}

func testCompleteChecks(f *fixture) {
	absent := func(cur *gateway.Object) error {
		if cur != nil {
			return gateway.ErrPrecondition
		}
		return nil
	}
	u := f.upload("k", gateway.UploadInput{Owner: "alice"})
	in := gateway.CompleteInput{Parts: []gateway.CompletedPart{f.part(u, 1, []byte("part"))}, Size: 4, Check: absent}
	f.put("k", []byte("in the way"))
	_, err := f.b.Complete(f.ctx, bucketName, "k", u.ID, in)
	f.wantErr(err, gateway.ErrPrecondition)
	f.wantBytes("k", []byte("in the way"))
	if err := f.b.Delete(f.ctx, bucketName, "k", nil); err != nil {
		f.Fatal(err)
	}
	if _, err := f.b.Complete(f.ctx, bucketName, "k", u.ID, in); err != nil {
		f.Fatal(err)
	}
	f.wantBytes("k", []byte("part"))
}

func testCompleteTwice(f *fixture) {
	u := f.upload("k", gateway.UploadInput{Owner: "alice"})
	p := f.part(u, 1, []byte("part"))
	first, err := f.complete(u, p)
	if err != nil {
		f.Fatal(err)
	}
	again, err := f.complete(u, p)
	if err != nil || again.ETag != first.ETag {
		f.Errorf("second Complete: %+v, %v", again, err)
	}
	_, err = f.b.PutPart(f.ctx, bucketName, "k", u.ID, 2, input(nil, nil))
	f.wantErr(err, gateway.ErrNoSuchUpload)
	f.wantErr(f.b.Abort(f.ctx, bucketName, "k", u.ID), gateway.ErrNoSuchUpload)
	f.wantBytes("k", []byte("part"))
	// It does not come back over what was written since.
	f.put("k", []byte("newer"))
	if _, err := f.complete(u, p); err != nil {
		f.Errorf("late second Complete: %v", err)
	}
	f.wantBytes("k", []byte("newer"))
}

func testListParts(f *fixture) {
	u := f.upload("k", gateway.UploadInput{Owner: "alice"})
	for _, n := range []int{10_000, 3, 1, 70} {
		f.part(u, n, []byte{byte(n)})
	}
	var got []int
	for after := 0; ; {
		parts, more, err := f.b.ListParts(f.ctx, bucketName, "k", u.ID, after, 3)
		if err != nil {
			f.Fatal(err)
		}
		for _, p := range parts {
			if p.ETag != sumsOf([]byte{byte(p.Number)}, "").ETag || p.Size != 1 {
				f.Errorf("part %+v", p)
			}
			got, after = append(got, p.Number), p.Number
		}
		if !more {
			break
		}
	}
	if !slices.Equal(got, []int{1, 3, 70, 10_000}) {
		f.Errorf("parts %v", got)
	}
}

func testCopy(f *fixture) {
	data := pattern(700_000, 1)
	for _, size := range []int{0, 10, 700_000} {
		in := input(data[:size], nil)
		in.Metadata = gateway.Metadata{ContentType: "text/s", User: map[string]string{"a": "1"}}
		src, err := f.b.Put(f.ctx, bucketName, "src", in)
		if err != nil {
			f.Fatal(err)
		}
		o, err := f.b.Copy(f.ctx, f.open("src"), bucketName, "dst", gateway.CopyInput{Owner: "bob"})
		if err != nil {
			f.Fatal(err)
		}
		got := f.wantBytes("dst", data[:size])
		if got.ETag != src.ETag || o.ETag != src.ETag || got.Owner != "bob" || got.Metadata.User["a"] != "1" || got.Key != "dst" || len(got.Checksums) != 1 || got.Checksums[0] != src.Checksums[0] {
			f.Errorf("copy %+v of %+v", got, src)
		}
		// The copy stands alone.
		f.put("src", []byte("changed"))
		f.wantBytes("dst", data[:size])
		if err := f.b.Delete(f.ctx, bucketName, "src", nil); err != nil {
			f.Fatal(err)
		}
		f.wantBytes("dst", data[:size])
		// Onto itself, with other metadata and another checksum.
		_, err = f.b.Copy(f.ctx, f.open("dst"), bucketName, "dst", gateway.CopyInput{Owner: "alice", Metadata: &gateway.Metadata{ContentType: "text/n"}, Digest: newDigest("SHA1")})
		if err != nil {
			f.Fatal(err)
		}
		got = f.wantBytes("dst", data[:size])
		if got.Metadata.ContentType != "text/n" || len(got.Metadata.User) != 0 || len(got.Checksums) != 1 || got.Checksums[0] != sumsOf(data[:size], "SHA1").Checksums[0] {
			f.Errorf("copy onto itself %+v", got)
		}
		_, err = f.b.Copy(f.ctx, f.open("dst"), bucketName, "dst", gateway.CopyInput{Check: func(*gateway.Object) error { return errChecked }})
		f.wantErr(err, errChecked)
	}
}

func testCopyPart(f *fixture) {
	data := pattern(gateway.MinPart+5000, 1)
	f.put("src", data)
	u := f.upload("dst", gateway.UploadInput{Owner: "alice", ChecksumAlgorithm: "CRC32C", ChecksumType: checksum.FullObject})
	var parts []gateway.CompletedPart
	for i, span := range [][2]int64{{3000, gateway.MinPart}, {1, 77}} {
		p, err := f.b.CopyPart(f.ctx, f.open("src"), span[0], span[1], bucketName, "dst", u.ID, i+1)
		if err != nil {
			f.Fatal(err)
		}
		want := sumsOf(data[span[0]:span[0]+span[1]], "CRC32C")
		if p.ETag != want.ETag || p.Size != span[1] || len(p.Checksums) != 1 || p.Checksums[0].Value != want.Checksums[0].Value {
			f.Fatalf("part %+v, want %+v", p, want)
		}
		parts = append(parts, gateway.CompletedPart{Number: i + 1, ETag: p.ETag})
	}
	if err := f.b.Delete(f.ctx, bucketName, "src", nil); err != nil {
		f.Fatal(err)
	}
	o, err := f.complete(u, parts...)
	if err != nil {
		f.Fatal(err)
	}
	want := slices.Concat(data[3000:3000+gateway.MinPart], data[1:78])
	f.wantBytes("dst", want)
	if o.Checksums[0] != sumsOf(want, "CRC32C").Checksums[0] {
		f.Errorf("checksum %+v", o.Checksums)
	}
	_, err = f.b.CopyPart(f.ctx, f.open("dst"), 0, 1, bucketName, "dst", "nonsense", 1)
	f.wantErr(err, gateway.ErrNoSuchUpload)
}
