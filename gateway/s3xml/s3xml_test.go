package s3xml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden documents")

var (
	at    = Time(time.Date(2026, 2, 3, 4, 5, 6, 789e6, time.UTC))
	alice = Owner{ID: "alice", DisplayName: "alice"}
	size  = int64(42)
	empty = Text("")
	entry = ObjectEntry{Key: "a&b<c>\"d\"\r\n\x01\u2028é", LastModified: at, ETag: `"0123"`, ChecksumAlgorithm: []string{"CRC32"}, ChecksumType: "FULL_OBJECT",
		Size: 42, Owner: &alice, StorageClass: "STANDARD"}
	group  = []CommonPrefix{{"a/"}, {"b/"}}
	golden = map[string]any{
		"error": Error{Code: "NoSuchKey", Message: "The specified key does not exist.", Facts: []Fact{{xml.Name{Local: "Key"}, "a<b"}}, Resource: "/b/a<b", RequestID: "R", HostID: "H"},
		"list_buckets": ListAllMyBucketsResult{Owner: alice, Buckets: []BucketEntry{{"b", at, "us-east-1"}}, ContinuationToken: "t",
			Prefix: &empty},
		"location_us":    LocationConstraint{},
		"location_eu":    LocationConstraint{Region: "eu-central-1"},
		"list_objects":   ListBucketResult{Name: "b", Prefix: "", Marker: "m", NextMarker: "n", MaxKeys: 1000, Delimiter: "/", IsTruncated: true, Contents: NewContents([]ObjectEntry{entry}), CommonPrefixes: group},
		"list_empty":     ListBucketResult{Name: "b", MaxKeys: 1000},
		"list_v2":        ListBucketResultV2{Name: "b", Prefix: "p", StartAfter: "s", ContinuationToken: "c", NextContinuationToken: "n", KeyCount: 3, MaxKeys: 3, EncodingType: "url", IsTruncated: true, Contents: NewContents([]ObjectEntry{entry}), CommonPrefixes: group},
		"acl":            AccessControlPolicy{Owner: alice, Grants: []Grant{CanonicalUser(alice)}},
		"versioning":     NewEmpty("VersioningConfiguration"),
		"tagging":        Tagging{},
		"request_payer":  RequestPaymentConfiguration{Payer: "BucketOwner"},
		"encryption":     ServerSideEncryptionConfiguration{SSEAlgorithm: "AES256"},
		"copy_object":    CopyObjectResult{LastModified: at, ETag: `"0123"`, ChecksumType: "FULL_OBJECT", Checksums: Checksums{CRC64NVME: "AAAAAAAAAAA="}},
		"copy_part":      CopyPartResult{LastModified: at, ETag: `"0123"`, Checksums: Checksums{SHA1: "x"}},
		"delete_result":  DeleteResult{Deleted: []Deleted{{Key: "a"}, {Key: "b", VersionID: "null"}}, Errors: []DeleteError{{Key: "c", Code: "AccessDenied", Message: "Access Denied"}}},
		"initiate":       InitiateMultipartUploadResult{Bucket: "b", Key: "k", UploadID: "u"},
		"complete":       CompleteMultipartUploadResult{Location: "http://h/b/k", Bucket: "b", Key: "k", ETag: `"0123-2"`, ChecksumType: "COMPOSITE", Checksums: Checksums{CRC32: "x-2"}},
		"list_parts":     ListPartsResult{Bucket: "b", Key: "k", UploadID: "u", Initiator: alice, Owner: alice, StorageClass: "STANDARD", NextPartNumberMarker: 2, MaxParts: 1000, Parts: []PartEntry{{2, at, `"0123"`, 42, Checksums{CRC32C: "x"}}}},
		"list_uploads":   ListMultipartUploadsResult{Bucket: "b", NextKeyMarker: "k", NextUploadIDMarker: "u", MaxUploads: 1, IsTruncated: true, Uploads: []UploadEntry{{"k", "u", alice, alice, "STANDARD", at, "CRC32", "COMPOSITE"}}, CommonPrefixes: group},
		"attributes":     GetObjectAttributesResponse{ETag: "0123", Checksum: &Checksum{Checksums{SHA256: "x"}, "COMPOSITE"}, ObjectParts: &ObjectParts{PartsCount: 2, MaxParts: 1000, NextPartNumberMarker: 1, IsTruncated: true, Parts: []ObjectPart{{1, 42, Checksums{SHA256: "y"}}}}, StorageClass: "STANDARD", ObjectSize: &size},
		"attributes_few": GetObjectAttributesResponse{StorageClass: "STANDARD"},
	}
)

func TestGolden(t *testing.T) {
	for name, v := range golden {
		got, err := Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		// One element a line makes differences readable; the blanks go before comparing.
		path := filepath.Join("testdata", name+".xml")
		if *update {
			if err := os.WriteFile(path, append(bytes.ReplaceAll(got, []byte("><"), []byte(">\n<")), '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.ReplaceAll(want, []byte("\n"), nil), bytes.ReplaceAll(got, []byte("\n"), nil)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func number(n int) *int { return &n }

func TestDecode(t *testing.T) {
	tag, when, length := "e", Time(time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)), int64(5)
	for doc, want := range map[string]any{
		`<?xml version="1.0" encoding="UTF-8"?><!-- hello --><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet><Object><Key>a&amp;b</Key><VersionId>null</VersionId></Object>
		 <Object><Key><![CDATA[<x>]]></Key><ETag>e</ETag><Size>5</Size><LastModifiedTime>2026-02-03T04:05:06Z</LastModifiedTime></Object></Delete> <!-- bye -->`: &Delete{Quiet: true, Objects: []DeleteObject{
			{Key: "a&b", VersionID: "null"}, {Key: "<x>", ETag: &tag, Size: &length, LastModifiedTime: &when}}},
		`<Delete><Object><Key>k</Key></Object></Delete>`: &Delete{Objects: []DeleteObject{{Key: "k"}}},
		`<CompleteMultipartUpload><Part><ETag>"x"</ETag><PartNumber>1</PartNumber><ChecksumCRC32>c</ChecksumCRC32></Part></CompleteMultipartUpload>`: &CompleteMultipartUpload{
			Parts: []CompletedPart{{PartNumber: number(1), ETag: `"x"`, Checksums: Checksums{CRC32: "c"}}}},
		`<CreateBucketConfiguration><LocationConstraint>eu</LocationConstraint></CreateBucketConfiguration>`: &CreateBucketConfiguration{LocationConstraint: "eu"},
	} {
		got := reflect.New(reflect.TypeOf(want).Elem())
		if err := Decode(strings.NewReader(doc), 4096, got.Interface()); err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		got.Elem().FieldByName("XMLName").SetZero()
		if !reflect.DeepEqual(got.Interface(), want) {
			t.Errorf("%s: %+v, want %+v", doc, got.Interface(), want)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	broken := errors.New("network")
	for name, c := range map[string]struct {
		doc  string
		want error
	}{
		"empty":       {"", ErrMalformed},
		"text":        {"hello", ErrMalformed},
		"root":        {"<Other/>", ErrMalformed},
		"unclosed":    {"<Delete><Object>", ErrMalformed},
		"crossed":     {"<Delete><Object></Delete></Object>", ErrMalformed},
		"doctype":     {"<!DOCTYPE d><Delete/>", ErrMalformed},
		"entity":      {`<!DOCTYPE d [<!ENTITY e "x">]><Delete><Object><Key>&e;</Key></Object></Delete>`, ErrMalformed},
		"unknown":     {"<Delete><Object><Key>&e;</Key></Object></Delete>", ErrMalformed},
		"instruction": {"<?php x?><Delete/>", ErrMalformed},
		"depth":       {"<Delete>" + strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth) + "</Delete>", ErrMalformed},
		"two roots":   {"<Delete/><Delete/>", ErrMalformed},
		"tail":        {"<Delete/>x", ErrMalformed},
		"number":      {"<Delete><Object><Size>x</Size></Object></Delete>", ErrMalformed},
		"charset":     {`<?xml version="1.0" encoding="UTF-7"?><Delete/>`, ErrMalformed},
		"too large":   {"<Delete>" + strings.Repeat(" ", 5000) + "</Delete>", ErrTooLarge},
	} {
		var d Delete
		if err := Decode(strings.NewReader(c.doc), 4096, &d); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	var d Delete
	if err := Decode(io.MultiReader(strings.NewReader("<Delete>"), errorReader{broken}), 4096, &d); !errors.Is(err, broken) {
		t.Errorf("source's error became %v", err)
	}
	fits := "<Delete>" + strings.Repeat(" ", 4096-len("<Delete></Delete>")) + "</Delete>"
	if err := Decode(strings.NewReader(fits), 4096, &d); err != nil {
		t.Errorf("a document just within the limit: %v", err)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// FuzzDecode decodes anything, and whatever decodes as a Delete encodes and decodes to the same.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`<Delete><Quiet>true</Quiet><Object><Key>a&#x41;</Key></Object></Delete>`))
	f.Add([]byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><Delete>&b;</Delete>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, v := range []any{&CompleteMultipartUpload{}, &CreateBucketConfiguration{}} {
			Decode(bytes.NewReader(doc), 4096, v)
		}
		var d, again Delete
		if Decode(bytes.NewReader(doc), 4096, &d) != nil {
			return
		}
		d.XMLName.Space = ""
		b, err := xml.Marshal(d)
		if err != nil {
			t.Skip() // a time that RFC 3339 cannot write
		}
		if err := Decode(bytes.NewReader(b), 1<<20, &again); err != nil || len(again.Objects) != len(d.Objects) {
			t.Fatalf("%q: %v", b, err)
		}
		for i := range d.Objects {
			if again.Objects[i].Key != d.Objects[i].Key {
				t.Fatalf("key %q came back as %q", d.Objects[i].Key, again.Objects[i].Key)
			}
		}
	})
}
