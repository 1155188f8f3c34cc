// Package wire is the bytes of requests and answers between PAST nodes. It knows no network.
//
// Each request has a stream of its own (pastry/wire.ServicePast). Both directions carry one frame:
//
//	kind     1   what is asked; in an answer 0 for success, 1 for an error
//	bodyLen  4   big-endian, at most BodyMax
//	dataLen  4   big-endian, at most DataMax
//	body     n   deterministic CBOR (RFC 8949 §4.2)
//	data     n   raw bytes: a fragment, or nothing
//
// The bulk stands outside the CBOR so that it can be read into its final place.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// Kind says what a request asks for.
type Kind uint8

// Answers.
const (
	KindOK    Kind = 0
	KindError Kind = 1
)

// Requests. Numbers are part of larder/1.
const (
	// past/chb
	KindFragmentPut     Kind = 0x10
	KindFragmentGet     Kind = 0x11
	KindFragmentStat    Kind = 0x12
	KindFragmentTrash   Kind = 0x13
	KindFragmentRestore Kind = 0x14
	KindFragmentList    Kind = 0x15
	// past/pkb
	KindRead    Kind = 0x20
	KindPrepare Kind = 0x21
	KindAccept  Kind = 0x22
	KindChosen  Kind = 0x23
	KindScan    Kind = 0x24
	KindLineage Kind = 0x25
	KindGenesis Kind = 0x26
	KindSlot    Kind = 0x27
	KindVote    Kind = 0x28
	KindFence   Kind = 0x29
	KindEnter   Kind = 0x2a
	KindPull    Kind = 0x2b
	KindForget  Kind = 0x2c
	KindGreet   Kind = 0x2d
	KindAhead   Kind = 0x2e
	// past/node
	KindInfo   Kind = 0x40
	KindAround Kind = 0x42
	KindAdmit  Kind = 0x41
)

// Limits, in bytes.
const (
	BodyMax   = 4 << 20
	DataMax   = 8 << 20
	headerLen = 9
)

// ErrFrame says that what came is not a frame of this protocol.
var ErrFrame = errors.New("past/wire: bad frame")

// Frame is a request or an answer. Data may be given in pieces for writing.
type Frame struct {
	Kind Kind
	Body []byte
	Data []byte
}

// Fits returns ErrFrame if a frame may not be so large.
func Fits(body []byte, data ...[]byte) error {
	_, err := fits(body, data)
	return err
}

func fits(body []byte, data [][]byte) (dataLen int, err error) {
	for _, d := range data {
		dataLen += len(d)
	}
	if len(body) > BodyMax || dataLen > DataMax {
		return 0, fmt.Errorf("%w: body of %d, data of %d bytes", ErrFrame, len(body), dataLen)
	}
	return dataLen, nil
}

// Write writes a frame whose data are the concatenation of data.
// What does not fit is ErrFrame, and nothing of it is written.
func Write(w io.Writer, kind Kind, body []byte, data ...[]byte) error {
	total, err := fits(body, data)
	if err != nil {
		return err
	}
	head := make([]byte, headerLen, headerLen+len(body))
	head[0] = byte(kind)
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	binary.BigEndian.PutUint32(head[5:], uint32(total))
	if _, err := w.Write(append(head, body...)); err != nil {
		return err
	}
	for _, d := range data {
		if len(d) > 0 {
			if _, err := w.Write(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// Read reads a frame. The data are read into dst if they fit its capacity, else into a new slice that grows as they come: a
// liar's length costs nobody memory.
func Read(r io.Reader, dst []byte) (Frame, error) {
	return ReadInto(r, func(int) []byte { return dst })
}

// ReadInto is Read into what room returns for data of n bytes; nil for a new slice.
func ReadInto(r io.Reader, room func(n int) []byte) (Frame, error) {
	var head [headerLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, err
	}
	bodyLen, dataLen := int(binary.BigEndian.Uint32(head[1:])), int(binary.BigEndian.Uint32(head[5:]))
	if bodyLen > BodyMax || dataLen > DataMax {
		return Frame{}, fmt.Errorf("%w: body of %d, data of %d bytes", ErrFrame, bodyLen, dataLen)
	}
	f := Frame{Kind: Kind(head[0])}
	var err error
	if f.Body, err = readInto(r, nil, bodyLen); err != nil {
		return Frame{}, err
	}
	f.Data, err = readInto(r, room(dataLen), dataLen)
	return f, err
}

// readChunk is how much memory is set aside on the word of a peer.
const readChunk = 256 << 10

func readInto(r io.Reader, dst []byte, n int) ([]byte, error) {
	if n <= cap(dst) {
		dst = dst[:n]
		_, err := io.ReadFull(r, dst)
		return dst, eof(err)
	}
	out := make([]byte, 0, min(n, readChunk))
	for len(out) < n {
		if len(out) == cap(out) {
			out = append(make([]byte, 0, min(n, 2*cap(out))), out...)
		}
		part := out[len(out):min(n, cap(out))]
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, eof(err)
		}
		out = out[:len(out)+len(part)]
	}
	return out, nil
}

// eof tells a frame that ends early from no frame at all.
func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 16, MaxArrayElements: 65536, MaxMapPairs: 4096,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Marshal encodes v as deterministic CBOR. It panics if v is not of this protocol's types.
func Marshal(v any) []byte { return must(encMode.Marshal(v)) }

// Unmarshal decodes data into v: no tags, no indefinite lengths, no duplicate keys, nothing behind it.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}
