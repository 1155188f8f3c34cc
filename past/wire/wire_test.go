package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"runtime"
	"testing"
)

func TestFrameGolden(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, KindFragmentGet, Marshal(map[int]int{1: 2}), []byte("da"), nil, []byte("ta")); err != nil {
		t.Fatal(err)
	}
	const want = "11" + "00000003" + "00000004" + "a10102" + "64617461"
	if got := hex.EncodeToString(b.Bytes()); got != want {
		t.Fatalf("frame %s, want %s", got, want)
	}
	dst := make([]byte, 0, 8)
	f, err := Read(&b, dst)
	if err != nil || f.Kind != KindFragmentGet || string(f.Data) != "data" || &f.Data[0] != &dst[:1][0] {
		t.Fatalf("read %+v, %v; data must stand in the caller's slice", f, err)
	}
}

func TestReadRefusesWhatIsTooLong(t *testing.T) {
	for _, head := range []string{"1100400001" + "00000000", "1100000000" + "00800001"} {
		raw, _ := hex.DecodeString(head)
		if _, err := Read(bytes.NewReader(raw), nil); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v, want ErrFrame", head, err)
		}
	}
	if err := Write(io.Discard, KindFragmentPut, nil, make([]byte, DataMax+1)); !errors.Is(err, ErrFrame) {
		t.Errorf("write: %v, want ErrFrame", err)
	}
}

func TestReadPaysForNothingThatDoesNotCome(t *testing.T) {
	raw, _ := hex.DecodeString("1100000000" + "00800000")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := Read(bytes.NewReader(raw), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 2*readChunk {
		t.Errorf("%d bytes set aside for a promise of 8 MiB", got)
	}
}

func TestUnmarshalIsStrict(t *testing.T) {
	for name, raw := range map[string]string{"tag": "c101", "indefinite": "9fff", "duplicate key": "a201010102", "trailing": "0101"} {
		b, _ := hex.DecodeString(raw)
		var v any
		if err := Unmarshal(b, &v); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v, want ErrFrame", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x11\x00\x00\x00\x03\x00\x00\x00\x04\xa1\x01\x02data"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		frame, err := Read(bytes.NewReader(raw), nil)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := Write(&b, frame.Kind, frame.Body, frame.Data); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b.Bytes(), raw[:b.Len()]) {
			t.Fatalf("read and written: %x, was %x", b.Bytes(), raw[:b.Len()])
		}
		var v any
		_ = Unmarshal(frame.Body, &v)
	})
}
