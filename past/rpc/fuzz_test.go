package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"larder/past/wire"
	overlaywire "larder/pastry/wire"
)

// tape is a stream on which everything was said before.
type tape struct {
	io.Reader
	bytes.Buffer // what was answered
}

func (s *tape) Read(p []byte) (int, error)  { return s.Reader.Read(p) }
func (s *tape) Write(p []byte) (int, error) { return s.Buffer.Write(p) }
func (s *tape) CloseWrite() error           { return nil }
func (s *tape) Cancel()                     {}
func (s *tape) SetDeadline(time.Time) error { return nil }

// FuzzServe: any bytes are answered with one frame or none, cost no memory that they did not pay for, and take no buffer along.
func FuzzServe(f *testing.F) {
	frame := func(kind wire.Kind, body any, data ...[]byte) []byte {
		var b bytes.Buffer
		_ = wire.Write(&b, kind, wire.Marshal(body), data...)
		return b.Bytes()
	}
	f.Add(frame(kind, shared{[]int{1}, true}, []byte("data")))
	f.Add(frame(kind, "another type"))
	f.Add(frame(0x99, nil))
	f.Add([]byte{byte(kind), 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := NewPeers(self{}, overlaywire.Peer{})
		p.Handle(kind, 0, func(_ context.Context, _ overlaywire.Peer, req Request) (any, []byte, error) {
			var q shared
			err := req.Decode(&q)
			return &q, req.Data[0], err
		})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s := &tape{Reader: bytes.NewReader(raw)}
		p.Serve(t.Context(), overlaywire.Peer{}, s)
		runtime.ReadMemStats(&after)
		if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > roomBytes+int64(64*len(raw))+1<<20 {
			t.Errorf("%d bytes made it set aside %d", len(raw), grown)
		}
		if len(p.room) != roomsMax || len(p.places.all) != 0 {
			t.Errorf("%d buffers, %d places taken", len(p.room), len(p.places.all))
		}
		if s.Len() == 0 {
			return
		}
		answer, err := wire.Read(&s.Buffer, nil)
		if err != nil || s.Len() > 0 {
			t.Fatalf("answered with what is no frame: %v, %d bytes behind it", err, s.Len())
		}
		var got shared
		if _, err := finish(answer, &got); (err == nil) != (answer.Kind == wire.KindOK) {
			t.Errorf("answer %v: %v", answer.Kind, err)
		}
	})
}

// FuzzFinish: any answer is one, or an error with a meaning that is known and a text that is short.
func FuzzFinish(f *testing.F) {
	f.Add(uint8(wire.KindOK), wire.Marshal(shared{[]int{1}, true}))
	for code := range uint8(9) {
		f.Add(uint8(wire.KindError), wire.Marshal(&Error{Code: Code(code), Text: "text"}))
	}
	f.Add(uint8(7), []byte{0xf6})
	f.Fuzz(func(t *testing.T, kind uint8, body []byte) {
		var answer shared
		_, err := finish(wire.Frame{Kind: wire.Kind(kind), Body: body}, &answer)
		var e *Error
		switch {
		case errors.As(err, &e) && (kind != uint8(wire.KindError) || len(e.Text) > textMax):
			t.Errorf("kind %d: %v", kind, e)
		case e == nil && err != nil && !errors.Is(err, wire.ErrFrame):
			t.Errorf("kind %d: %v", kind, err)
		}
	})
}
