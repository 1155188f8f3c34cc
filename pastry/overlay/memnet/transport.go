package memnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"larder/pastry"
	"larder/pastry/wire"
)

// inboxSize is how many messages a node has under way to it at most; more are lost.
const inboxSize = 4096

// Transport is one node's end of the network.
type Transport struct {
	net  *Network
	self wire.Peer

	inbox   chan delivery // from any sender, to deliverLoop; never closed; what does not fit is lost
	closing chan struct{} // closed by Close
	once    sync.Once
	running sync.WaitGroup // deliverLoop and a goroutine for each stream that was accepted

	receiver wire.Receiver        // set by Start; guarded by net.mu
	streams  map[*stream]struct{} // open ones; guarded by net.mu
	stop     context.CancelFunc   // ends the context of accepted streams; guarded by net.mu
	ctx      context.Context      // lives from Start to Close; guarded by net.mu
}

// delivery is one message on its way.
type delivery struct {
	from    pastry.NodeHandle
	message []byte
	at      time.Time
}

// Self returns the node's handle.
func (t *Transport) Self() pastry.NodeHandle { return t.self.Handle }

// Start makes the node receive. It starts deliverLoop, which Close awaits.
func (t *Transport) Start(r wire.Receiver) error {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if t.isClosed() {
		return ErrClosed
	}
	if t.receiver != nil {
		return errors.New("memnet: started twice")
	}
	t.receiver = r
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.running.Go(t.deliverLoop)
	return nil
}

func (t *Transport) isClosed() bool {
	select {
	case <-t.closing:
		return true
	default:
		return false
	}
}

// deliverLoop hands over each message when its time has come; all take equally long, so they come in order.
func (t *Transport) deliverLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.closing:
			return
		case d := <-t.inbox:
			timer.Reset(time.Until(d.at))
			select {
			case <-t.closing:
				return
			case <-timer.C:
				t.receiver.Message(d.from, d.message)
			}
		}
	}
}

// Send puts a copy of message on its way.
func (t *Transport) Send(to pastry.NodeHandle, message []byte) {
	if len(message) > wire.MessageMax || t.isClosed() {
		return
	}
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if t.net.loss > 0 && t.net.rand.Float64() < t.net.loss {
		return
	}
	peer := t.net.at(addrOf(to), t.self.Handle.ID)
	if peer == nil || peer.self.Handle.ID != to.ID {
		return
	}
	select {
	case peer.inbox <- delivery{t.self.Handle, bytes.Clone(message), time.Now().Add(t.net.latency)}:
	default:
	}
}

// Identify returns who is at addr, after a round trip.
func (t *Transport) Identify(ctx context.Context, addr netip.AddrPort) (pastry.NodeHandle, error) {
	peer, err := t.dial(ctx, addr)
	if err != nil {
		return pastry.NodeHandle{}, fmt.Errorf("memnet: identify %v: %w", addr, err)
	}
	return peer.self.Handle, nil
}

// dial returns the started node at addr after a round trip. It tries again until dialTimeout, as a handshake does.
func (t *Transport) dial(ctx context.Context, addr netip.AddrPort) (*Transport, error) {
	for waited := time.Duration(0); waited < dialTimeout; {
		t.net.mu.Lock()
		peer := t.net.at(addr, t.self.Handle.ID)
		wait := 2 * t.net.latency
		if peer == nil || peer.receiver == nil {
			peer, wait = nil, dialRetry
		}
		t.net.mu.Unlock()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.closing:
			return nil, ErrClosed
		case <-timer.C:
		}
		if peer != nil {
			return peer, nil
		}
		waited += wait
	}
	return nil, ErrUnreachable
}

// Open starts a stream, after a round trip.
func (t *Transport) Open(ctx context.Context, to pastry.NodeHandle, service wire.Service) (wire.Stream, error) {
	peer, err := t.dial(ctx, addrOf(to))
	if err == nil && peer.self.Handle.ID != to.ID {
		err = ErrOtherNode
	}
	if err != nil {
		return nil, fmt.Errorf("memnet: open %v: %w", to.ID, err)
	}
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	if t.isClosed() || peer.isClosed() || t.net.cut[linkOf(t.self.Handle.ID, to.ID)] {
		return nil, fmt.Errorf("memnet: open %v: %w", to.ID, ErrUnreachable)
	}
	ours, theirs := newStreams(t, peer)
	t.streams[ours], peer.streams[theirs] = struct{}{}, struct{}{}
	receiver, peerCtx := peer.receiver, peer.ctx
	peer.running.Go(func() { receiver.Stream(peerCtx, t.self, service, theirs) })
	return ours, nil
}

// RTT is twice the latency, to whoever is attached.
func (t *Transport) RTT(id pastry.NodeID) (time.Duration, bool) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	for _, peer := range t.net.nodes {
		if peer.self.Handle.ID == id {
			return 2 * t.net.latency, true
		}
	}
	return 0, false
}

// Close detaches the node, breaks its streams, ends the context of its handlers and waits for them.
func (t *Transport) Close() error {
	t.once.Do(func() {
		t.net.mu.Lock()
		close(t.closing)
		delete(t.net.nodes, addrOf(t.self.Handle))
		for s := range t.streams {
			s.breakWith(ErrClosed)
		}
		if t.stop != nil {
			t.stop()
		}
		t.net.mu.Unlock()
	})
	t.running.Wait()
	return nil
}

// forget takes a stream off the books.
func (t *Transport) forget(s *stream) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	delete(t.streams, s)
}
