package overlay

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"larder/pastry"
	"larder/pastry/wire"
)

// Run takes part in the ring until ctx ends, then says farewell to its peers. It starts the transport and does not close it. It
// returns nil once ctx has ended, or the error with which the transport would not start. It is called once.
func (o *Overlay) Run(ctx context.Context) error {
	if !o.running.CompareAndSwap(false, true) {
		return errors.New("overlay: run: called twice")
	}
	defer close(o.ended)
	o.start = time.Now()
	o.timer = time.NewTimer(time.Hour)
	defer o.timer.Stop()
	if err := o.t.Start(o); err != nil {
		return fmt.Errorf("overlay: run: %w", err)
	}
	seeking, stop := context.WithCancel(ctx)
	defer o.helpers.Wait()
	defer stop()
	o.loop(ctx, seeking)
	o.step(&pastry.Leaving{})
	o.log.Info("left the ring")
	return nil
}

// loop feeds the core until ctx ends.
func (o *Overlay) loop(ctx, seeking context.Context) {
	o.stepAndSeek(seeking, &pastry.Started{})
	for {
		select {
		case <-ctx.Done():
			return
		case in := <-o.inputs:
			o.stepAndSeek(seeking, in)
		case call := <-o.calls:
			call()
		case addr := <-o.identified:
			delete(o.asking, addr)
		case <-o.timer.C:
			o.stepAndSeek(seeking, &pastry.TimerFired{})
		}
	}
}

// stepAndSeek is step, and looks for seeds if the core wants it to.
func (o *Overlay) stepAndSeek(ctx context.Context, in pastry.Input) {
	o.step(in)
	if o.out.FindSeeds {
		o.findSeeds(ctx)
	}
}

// step feeds the core one input and carries out its wishes.
func (o *Overlay) step(in pastry.Input) {
	o.out.Reset()
	o.node.Step(time.Since(o.start), in, &o.out)
	if o.out.Wake != o.wake {
		o.wake = o.out.Wake
		o.timer.Reset(min(max(o.wake-time.Since(o.start), 0), time.Hour))
	} else if _, fired := in.(*pastry.TimerFired); fired {
		o.timer.Reset(max(o.wake-time.Since(o.start), 0))
	}
	for i := range o.out.Sends {
		o.send(&o.out.Sends[i])
	}
	for _, f := range o.out.Found {
		if w := o.waiting[f.Token]; w != nil {
			delete(o.waiting, f.Token)
			f.Near = slices.Clone(f.Near)
			w <- f
		}
	}
	if forget, ok := in.(*pastry.ForgetKey); ok {
		delete(o.waiting, forget.Token)
	}
	o.tell()
}

func (o *Overlay) send(s *pastry.Send) {
	var err error
	if o.buf, err = wire.Append(o.buf[:0], &s.Message); err != nil {
		o.log.Error("message cannot be encoded", zap.Stringer("kind", s.Message.Kind), zap.Error(err))
		return
	}
	if e := o.log.Check(zap.DebugLevel, "send"); e != nil {
		e.Write(zap.Stringer("kind", s.Message.Kind), zap.Stringer("nodeId", s.To.ID), zap.Int("sizeBytes", len(o.buf)))
	}
	o.t.Send(s.To, o.buf)
}

// tell makes known what the step changed.
func (o *Overlay) tell() {
	for _, h := range o.out.Failed {
		o.log.Warn("node failed", zap.Stringer("nodeId", h.ID), zap.Stringer("addr", addrOf(h)))
	}
	for _, h := range o.out.Returned {
		o.log.Info("node returned", zap.Stringer("nodeId", h.ID), zap.Stringer("addr", addrOf(h)))
	}
	if o.out.LeafsChanged {
		leafs := o.node.Leafs().AppendMembers(nil)
		slices.SortFunc(leafs, func(a, b pastry.NodeHandle) int { return a.ID.Compare(b.ID) })
		o.mu.Lock()
		o.leafs = leafs
		for c := range o.subscribers {
			select {
			case c <- struct{}{}:
			default: // there is one in it that has not been read
			}
		}
		o.mu.Unlock()
		o.log.Debug("leaf set changed", zap.Int("leafSetSize", len(leafs)))
	}
	if o.out.BecameReady {
		o.log.Info("ready", zap.Int("leafSetSize", o.node.Leafs().Len()), zap.Duration("took", time.Since(o.start)))
		select {
		case <-o.ready:
		default:
			close(o.ready)
		}
	}
}

// findSeeds asks who is at each seed's address, unless that is being asked. Each answer is an input.
func (o *Overlay) findSeeds(ctx context.Context) {
	for _, addr := range o.cfg.Seeds {
		if o.asking[addr] {
			continue
		}
		o.asking[addr] = true
		o.helpers.Go(func() { o.identify(ctx, addr) })
	}
}

func (o *Overlay) identify(ctx context.Context, addr netip.AddrPort) {
	within, cancel := context.WithTimeout(ctx, identifyTimeout)
	defer cancel()
	seed, err := o.t.Identify(within, addr)
	if err != nil {
		o.log.Debug("seed does not answer", zap.Stringer("addr", addr), zap.Error(err))
	} else {
		o.post(&pastry.SeedSeen{Seed: seed})
	}
	o.identified <- addr // has room: one for each seed, which asks once at a time
}

func addrOf(h pastry.NodeHandle) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(h.Addr).Unmap(), h.Port)
}

// systemRand returns a source seeded by the system: the core's nonces are what keeps strangers from answering its lookups.
func systemRand() *rand.Rand {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	return rand.New(rand.NewChaCha8(seed))
}
