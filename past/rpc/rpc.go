// Package rpc is one request and its answer between two PAST nodes, or a node and itself: who may ask, how many at once, and
// how errors keep their meaning on the way. What the requests mean is past/chb's, past/pkb's and past/node's.
package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"larder/past"
	"larder/past/wire"
	"larder/pastry"
	overlaywire "larder/pastry/wire"
)

// Ring is what PAST asks of the overlay. All methods are safe for concurrent use and cheap, but for Around and Open.
type Ring interface {
	Self() pastry.NodeID
	// Around returns the live storage nodes of the leaf set round key, this one included if it is one: the candidates for what
	// lies at key. In a ring of at most |L| nodes that is every storage node, and costs no message.
	Around(ctx context.Context, key pastry.Key) ([]past.Candidate, error)
	// Open starts a stream to a node whose handle is known or can be found.
	Open(ctx context.Context, to pastry.NodeID) (overlaywire.Stream, error)
	// RTT is the smoothed round-trip time, 0 for this node, and a second for one that was never measured.
	RTT(id pastry.NodeID) time.Duration
	// Suspect says that requests to a node fail, so that the overlay looks after it now. Reachable is false for a node that
	// is believed dead.
	Suspect(id pastry.NodeID)
	Reachable(id pastry.NodeID) bool
}

// Handler answers one request. The answer's body is encoded by rpc; data may be nil. req.Data is valid until it returns.
type Handler func(ctx context.Context, from overlaywire.Peer, req Request) (answer any, data []byte, err error)

// Request is a request as a Handler sees it.
type Request struct {
	Kind wire.Kind
	body []byte
	own  any // instead of body, where a node asks itself with a Shareable
	// Data is the request's data, in one piece or, where a node asks itself, in the pieces that it gave.
	Data [][]byte
}

// Decode fills v, a pointer to the request's type, from its body.
func (r *Request) Decode(v any) error {
	if r.own != nil {
		if handOver(v, r.own) {
			return nil
		}
		return wire.Unmarshal(wire.Marshal(r.own), v)
	}
	return wire.Unmarshal(r.body, v)
}

// Shareable is a request or an answer that need not be encoded where a node asks itself. Shareable reports whether whoever made it
// leaves everything in it as it is from then on; whoever gets it does anyway.
type Shareable interface{ Shareable() bool }

// handOver sets what v points to to own, a value of the same type or a pointer to one. It returns false if own is of another type.
func handOver(v, own any) bool {
	to, from := reflect.ValueOf(v).Elem(), reflect.Indirect(reflect.ValueOf(own))
	if to.Type() != from.Type() {
		return false
	}
	to.Set(from)
	return true
}

func shareable(v any) bool {
	s, ok := v.(Shareable)
	return ok && s.Shareable()
}

// Peers sends requests and hands incoming ones to handlers.
type Peers struct {
	ring     Ring
	handlers [256]handler
	self     overlaywire.Peer
	places   places
	// room are buffers for the data of large requests. Capacity roomsMax; nil where one was not made yet. Taken and given back by
	// Serve, without waiting: whoever finds none reads into new memory, bit by bit.
	room  chan []byte
	stats Stats
}

type handler struct {
	f    Handler
	role overlaywire.Roles
}

// Stats counts what Peers saw, since start.
type Stats struct {
	Sent, Failed, Answered, Refused, BadFrames atomic.Int64
}

// ErrNotAllowed says that the peer's certificate lacks a role that the request needs.
var ErrNotAllowed = errors.New("peer lacks the role for this request")

// Large requests are those with more data than roomFrom bytes, most of them fragments of whole stripes.
const (
	roomsMax  = 4
	roomBytes = 4<<20 + 64<<10
	roomFrom  = 256 << 10
)

// NewPeers returns Peers of the node self. Handlers are registered before the first request.
func NewPeers(ring Ring, self overlaywire.Peer) *Peers {
	p := &Peers{ring: ring, self: self, places: newPlaces(), room: make(chan []byte, roomsMax)}
	for range roomsMax {
		p.room <- nil
	}
	return p
}

// Ring is the ring that the peers are on.
func (p *Peers) Ring() Ring { return p.ring }

// Stats returns the live counters.
func (p *Peers) Stats() *Stats { return &p.stats }

// Handle makes f answer requests of kind from peers that hold every role of role.
func (p *Peers) Handle(kind wire.Kind, role overlaywire.Roles, f Handler) {
	p.handlers[kind] = handler{f, role}
}

// Call is one request. Into, if not nil, is where the answer's data are put if they fit its capacity.
type Call struct {
	Kind wire.Kind
	Body any
	Data [][]byte
	Into []byte
}

// Do asks node to and fills answer, a pointer or nil, with its answer's body. It returns the answer's data. Errors that the peer
// answered wrap the same sentinels of package past as they did there. A request that is too large for a frame is wire.ErrFrame and is not
// sent. Anything else that goes wrong is past.ErrUnavailable, and whether the peer acted on the request is then not known.
func (p *Peers) Do(ctx context.Context, to pastry.NodeID, call Call, answer any) ([]byte, error) {
	if to == p.ring.Self() {
		p.stats.Sent.Add(1)
		return p.local(ctx, call, answer)
	}
	return p.remote(ctx, to, call, answer, func() (overlaywire.Stream, error) { return p.ring.Open(ctx, to) })
}

// DoOn is Do on a stream that open makes, for nodes that are only being met.
func (p *Peers) DoOn(ctx context.Context, to pastry.NodeID, call Call, answer any, open func() (overlaywire.Stream, error)) ([]byte, error) {
	return p.remote(ctx, to, call, answer, open)
}

func (p *Peers) remote(ctx context.Context, to pastry.NodeID, call Call, answer any, open func() (overlaywire.Stream, error)) ([]byte, error) {
	p.stats.Sent.Add(1)
	body := wire.Marshal(call.Body)
	if err := wire.Fits(body, call.Data...); err != nil {
		p.stats.Failed.Add(1)
		return nil, fmt.Errorf("past: request %#x to %v: %w", uint8(call.Kind), to, err)
	}
	data, err := exchange(ctx, call, body, answer, open)
	var remote *Error
	if err != nil && !errors.As(err, &remote) {
		p.stats.Failed.Add(1)
		if ctx.Err() == nil {
			p.ring.Suspect(to)
		}
		return nil, fmt.Errorf("past: request %#x to %v: %w: %w", uint8(call.Kind), to, past.ErrUnavailable, err)
	}
	return data, err
}

// exchange is one request and its answer on a new stream.
func exchange(ctx context.Context, call Call, body []byte, answer any, open func() (overlaywire.Stream, error)) ([]byte, error) {
	s, err := open()
	if err != nil {
		return nil, err
	}
	defer s.Cancel()
	stop := context.AfterFunc(ctx, s.Cancel)
	defer stop()
	said := wire.Write(s, call.Kind, body, call.Data...)
	if said == nil {
		said = s.CloseWrite()
	}
	// Who answers stops listening. If that came before the end of what is said here, the answer is there all the same.
	f, err := wire.Read(s, call.Into)
	if err != nil {
		return nil, cmp.Or(said, err)
	}
	return finish(f, answer)
}

func finish(f wire.Frame, answer any) ([]byte, error) {
	switch f.Kind {
	case wire.KindOK:
		if answer != nil {
			if err := wire.Unmarshal(f.Body, answer); err != nil {
				return nil, err
			}
		}
		return f.Data, nil
	case wire.KindError:
		var e Error
		if err := wire.Unmarshal(f.Body, &e); err != nil {
			return nil, err
		}
		e.Text = short(e.Text)
		return nil, &e
	}
	return nil, fmt.Errorf("%w: answer of kind %#x", wire.ErrFrame, uint8(f.Kind))
}

// local asks this node itself, without a stream. Unless they are Shareable the bodies still go through their encoding, so that handler
// and caller share nothing.
func (p *Peers) local(ctx context.Context, call Call, answer any) ([]byte, error) {
	req := Request{Kind: call.Kind, Data: call.Data}
	if shareable(call.Body) {
		req.own = call.Body
	} else {
		req.body = wire.Marshal(call.Body)
	}
	body, out, err := p.answer(ctx, p.self, req)
	if err != nil {
		return nil, asError(err)
	}
	if cap(call.Into) >= len(out) && call.Into != nil {
		out = append(call.Into[:0], out...)
	}
	if answer != nil && shareable(body) && handOver(answer, body) {
		return out, nil
	}
	return finish(wire.Frame{Kind: wire.KindOK, Body: wire.Marshal(body), Data: out}, answer)
}

// Serve answers the request on s. It is what the overlay calls for each incoming stream.
func (p *Peers) Serve(ctx context.Context, from overlaywire.Peer, s overlaywire.Stream) {
	defer s.Cancel()
	if !p.places.take(ctx, from.Handle.ID) {
		return
	}
	defer p.places.leave(from.Handle.ID)
	_ = s.SetDeadline(time.Now().Add(requestMax))
	var room []byte
	defer func() {
		if room != nil {
			p.room <- room
		}
	}()
	f, err := wire.ReadInto(s, func(n int) []byte {
		room = p.takeRoom(n)
		return room
	})
	if err != nil {
		p.stats.BadFrames.Add(1)
		return
	}
	body, data, err := p.answer(ctx, from, Request{Kind: f.Kind, body: f.Body, Data: [][]byte{f.Data}})
	if err != nil {
		p.stats.Refused.Add(1)
		err = wire.Write(s, wire.KindError, wire.Marshal(asError(err)))
	} else {
		err = p.reply(s, wire.Marshal(body), data)
	}
	if err == nil {
		_ = s.CloseWrite()
	}
}

// reply writes an answer, or where it is too large for a frame, of which nothing is written then, an error.
func (p *Peers) reply(s overlaywire.Stream, body, data []byte) error {
	err := wire.Write(s, wire.KindOK, body, data)
	if errors.Is(err, wire.ErrFrame) {
		p.stats.Refused.Add(1)
		return wire.Write(s, wire.KindError, wire.Marshal(asError(err)))
	}
	p.stats.Answered.Add(1)
	return err
}

// takeRoom returns a buffer for data of n bytes, nil if they are few, or too many, or no buffer is free.
func (p *Peers) takeRoom(n int) []byte {
	if n <= roomFrom || n > roomBytes {
		return nil
	}
	select {
	case b := <-p.room:
		if b == nil {
			b = make([]byte, roomBytes)
		}
		return b
	default:
		return nil
	}
}

// requestMax bounds how long one request may occupy a place here.
const requestMax = 60 * time.Second

func (p *Peers) answer(ctx context.Context, from overlaywire.Peer, req Request) (any, []byte, error) {
	h := p.handlers[req.Kind]
	if h.f == nil {
		return nil, nil, fmt.Errorf("%w: kind %#x", wire.ErrFrame, uint8(req.Kind))
	}
	if !from.Roles.Has(h.role) {
		return nil, nil, fmt.Errorf("%w: %v asked for %#x", ErrNotAllowed, from.Handle.ID, uint8(req.Kind))
	}
	return h.f(ctx, from, req)
}

// Error is an error that a peer answered with.
type Error struct {
	_    struct{} `cbor:",toarray"`
	Code Code
	Text string
}

// textMax is how many bytes of an error's text travel.
const textMax = 1 << 10

// Code is the sentinel that an Error stands for; 0 for none.
type Code uint8

// codes are the sentinels that travel. An error that wraps several stands for the first of them here, which promises least. The numbers
// are part of larder/1.
var codes = []struct {
	code     Code
	sentinel error
}{
	{3, past.ErrUnknown},
	{2, past.ErrUnavailable},
	{5, past.ErrDamaged},
	{4, past.ErrNoSpace},
	{1, past.ErrNotFound},
	{6, ErrNotAllowed},
	{7, wire.ErrFrame},
}

// asError is err as it travels.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = &Error{Text: short(err.Error())}
	for _, c := range codes {
		if errors.Is(err, c.sentinel) {
			e.Code = c.code
			break
		}
	}
	return e
}

// short cuts a text to textMax bytes. What is not UTF-8 is replaced, since CBOR refuses it.
func short(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), textMax)], "?")
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the sentinel, nil if the peer's error is none of those that travel.
func (e *Error) Unwrap() error {
	for _, c := range codes {
		if c.code == e.Code {
			return c.sentinel
		}
	}
	return nil
}
