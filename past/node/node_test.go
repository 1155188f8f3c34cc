package node

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"larder/auth/realm"
	"larder/blockstore"
	"larder/blockstore/memstore"
	"larder/past"
	"larder/past/register"
	"larder/pastry"
	"larder/pastry/overlay"
	"larder/pastry/overlay/memnet"
	"larder/pastry/wire"

	"go.uber.org/zap"
)

// world is nodes of one realm over a network in memory.
type world struct {
	t       *testing.T
	net     *memnet.Network
	members []*member
}

// member is one node, which may be started again on its disk.
type member struct {
	*Node
	w         *world
	identity  *realm.Identity
	claims    wire.Roles // what it says that it is, besides what its certificate says
	disk      *memstore.Disk
	handle    pastry.NodeHandle
	transport *memnet.Transport
	store     *memstore.Store
	stop      context.CancelFunc
	ended     chan error
}

const (
	storage = wire.RoleStorage
	gateway = wire.RoleGateway
)

// inWorld runs f with a node for each of the given roles, the first the founder's, once all know each other.
func inWorld(t *testing.T, f func(t *testing.T, w *world), roles ...wire.Roles) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: memnet.New(time.Millisecond)}
		defer func() {
			for _, m := range w.members {
				_ = m.end()
			}
		}()
		for _, r := range roles {
			w.add(r, 0).run()
		}
		w.settle()
		f(t, w)
	})
}

// settle gives the nodes time to get to know each other.
func (w *world) settle() { time.Sleep(30 * time.Second) } // of the bubble's own time

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// add makes a node that does not run yet.
func (w *world) add(roles, claims wire.Roles) *member {
	id := w.identity(roles)
	m := &member{w: w, identity: id, claims: claims, disk: new(memstore.Disk), handle: memnet.Handle(id.NodeID(), uint16(len(w.members)+1))}
	w.members = append(w.members, m)
	return m
}

func (w *world) identity(roles wire.Roles) *realm.Identity {
	if len(w.members) == 0 {
		id, err := realm.Found(rand.Reader, time.Now(), roles)
		w.must(err)
		return id
	}
	founder := w.members[0].identity
	ticket, err := founder.NewTicket(rand.Reader, time.Now(), time.Hour, roles, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")})
	w.must(err)
	applicant, err := realm.NewApplicant(rand.Reader, ticket, roles)
	w.must(err)
	answer, _, err := founder.Admit(rand.Reader, time.Now(), applicant.Request(), applicant.Key.Public().(ed25519.PublicKey), nil)
	w.must(err)
	id, err := applicant.Accept(answer, time.Now())
	w.must(err)
	return id
}

// run starts a node on its disk, and waits until it is ready.
func (m *member) run() {
	m.w.t.Helper()
	cfg := overlay.Config{Node: pastry.DefaultConfig(nil), Seeds: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}}
	founder := m == m.w.members[0]
	if founder {
		cfg.Seeds = nil
	}
	claimed, cert := *m.identity, *m.identity.Node
	cert.Roles |= m.claims
	claimed.Node = &cert
	capacity := int64(0)
	if cert.Roles.Has(storage) {
		capacity = 1 << 30
	}
	m.transport = m.w.net.Node(wire.Peer{Handle: m.handle, Roles: m.identity.Node.Roles})
	var err error
	m.store = memstore.New(memstore.Options{Disk: m.disk, CapacityBytes: 1 << 30})
	m.Node, err = New(m.w.t.Context(), Config{
		Identity: &claimed, Overlay: overlay.New(cfg, m.transport, zap.NewNop()), Store: m.store,
		CapacityBytes: capacity, ReplaceAfter: 10 * time.Second, RepairAfter: 10 * time.Second, Log: zap.NewNop(), Now: time.Now,
	})
	m.w.must(err)
	if founder {
		m.w.must(m.Found(m.w.t.Context()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.ended = cancel, make(chan error, 1)
	go func() { m.ended <- m.Run(ctx) }() // awaited by end
	<-m.Ready()
}

// end stops a node, whose peers learn of it by its silence, and returns what Run returned.
func (m *member) end() error {
	if m.stop == nil {
		return nil
	}
	m.stop()
	return m.ends()
}

// ends waits for the end of a node.
func (m *member) ends() error {
	var err error
	select {
	case err = <-m.ended:
	case <-time.After(time.Minute):
		return errors.New("it goes on")
	}
	m.stop()
	_ = m.transport.Close()
	_ = m.store.Close()
	m.stop = nil
	return err
}

// sees is what n knows of another node.
func (m *member) sees(other *member) (Info, bool) {
	for _, i := range m.Nodes() {
		if i.ID == other.handle.ID {
			return i, true
		}
	}
	return Info{}, false
}

func TestNodesKnowEachOther(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, m := range w.members {
			for _, other := range w.members {
				i, ok := m.sees(other)
				if want := other.identity.Node.Roles; !ok || i.Roles != want || i.Incarnation != other.memory.incarnation || i.Boot != 1 || (i.CapacityBytes > 0) != want.Has(storage) {
					t.Errorf("%v sees %v as %+v", m.handle.ID, other.handle.ID, i)
				}
			}
			if m.Fingerprint() != w.members[0].Fingerprint() || m.told.Load() != m.Fingerprint() {
				t.Errorf("%v has another leaf set, or its blocks were not told of it", m.handle.ID)
			}
			around, err := m.ring.Around(t.Context(), pastry.Key{1})
			if err != nil || len(around) != 2 {
				t.Errorf("%d storage nodes around a key, %v", len(around), err)
			}
			if m.ring.Storage() != 2 || len(m.ring.Gateways()) != 2 {
				t.Errorf("%d storage nodes and %d gateways", m.ring.Storage(), len(m.ring.Gateways()))
			}
		}
	}, storage|gateway, storage, gateway)
}

// TestRolesAreProven: who claims a role that its certificate does not give is not taken for one that has it, whoever asks whom.
func TestRolesAreProven(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		liar := w.add(storage, gateway)
		liar.run()
		for range 20 {
			for _, m := range w.members[:2] {
				if i, ok := m.sees(liar); ok && i.Roles.Has(gateway) {
					t.Fatalf("a storage node passes for a gateway: %+v", i)
				}
				for _, g := range m.ring.Gateways() {
					if g.ID == liar.handle.ID {
						t.Fatal("a storage node is counted among the gateways")
					}
				}
			}
			time.Sleep(300 * time.Millisecond)
		}
		if i, ok := w.members[0].sees(liar); !ok || i.Roles != storage {
			t.Errorf("it is taken for %+v", i)
		}
	}, storage|gateway, gateway)
}

// TestNobodySpeaksForOthers: what a node says of another one is not noted.
func TestNobodySpeaksForOthers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.members[0], w.members[1]
		before, _ := a.sees(b)
		a.take(w.members[2].handle, Info{ID: b.handle.ID, Incarnation: 1, CapacityBytes: 1 << 60})
		if now, ok := a.sees(b); !ok || now.Incarnation != before.Incarnation || now.CapacityBytes != before.CapacityBytes {
			t.Errorf("%+v", now)
		}
	}, storage|gateway, storage, storage)
}

// TestRefresh names those that do not answer, and takes no longer than one of them is waited for.
func TestRefresh(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		if silent := w.members[0].Refresh(t.Context()); len(silent) != 0 {
			t.Fatalf("%v are silent", silent)
		}
		want := []pastry.NodeID{w.members[1].handle.ID, w.members[2].handle.ID}
		slices.SortFunc(want, pastry.NodeID.Compare)
		for _, id := range want {
			w.net.Isolate(id, true)
		}
		begin := time.Now()
		if silent := w.members[0].Refresh(t.Context()); !slices.Equal(silent, want) {
			t.Errorf("%v are silent, want %v", silent, want)
		}
		if took := time.Since(begin); took > introduceMax {
			t.Errorf("took %v", took)
		}
	}, storage|gateway, storage, storage)
}

// TestForgedSystem: a lineage of the system partition that the realm did not sign, or of another partition, is not taken over by a node that
// knows none.
func TestForgedSystem(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		good := w.members[0].memory.system()
		late := w.add(storage, 0)
		late.run()
		for name, forge := range map[string]func(s *system){
			"another key":       func(s *system) { s.Lineage.Genesis.RecordKey[0] ^= 1 },
			"another member":    func(s *system) { s.Lineage.Genesis.Members = []register.MemberID{late.Node.identity().Member} },
			"no signature":      func(s *system) { s.Signature = nil },
			"another signature": func(s *system) { s.Signature = slices.Clone(s.Signature); s.Signature[0] ^= 1 },
			"another partition": func(s *system) { s.Lineage.Genesis.Partition = register.PartitionID{9} },
		} {
			forged := *good
			forge(&forged)
			late.memory.mu.Lock()
			late.memory.sys = nil
			late.memory.mu.Unlock()
			late.learnSystem(t.Context(), &forged)
			if late.memory.system() != nil {
				t.Errorf("%s: taken over", name)
			}
		}
		late.learnSystem(t.Context(), good)
		if late.memory.system() == nil {
			t.Error("the right one is not taken over")
		}
	}, storage|gateway)
}

// TestReborn: a node of three whose register state is damaged ends, forgets it, comes back as another incarnation and is a member again.
func TestReborn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		time.Sleep(time.Minute) // the system partition grows to three members
		victim := w.members[2]
		old := victim.memory.incarnation
		if len(victim.members.Partitions()) == 0 || !victim.Replicated() {
			t.Fatalf("%d partitions, replicated %v", len(victim.members.Partitions()), victim.Replicated())
		}
		victim.reportDamage(register.System)
		if err := victim.ends(); !errors.Is(err, ErrReborn) {
			t.Fatalf("with damaged state: %v", err)
		}
		victim.run()
		if victim.memory.incarnation == old || victim.memory.boot != 1 {
			t.Errorf("incarnation %x after %x, start %d", victim.memory.incarnation, old, victim.memory.boot)
		}
		w.settle()
		time.Sleep(time.Minute)
		for _, m := range w.members {
			c := m.memory.system().Lineage.Current()
			if len(c.Members) != 3 || c.Index(victim.Node.identity().Member) < 0 {
				t.Errorf("%v knows the members %v", m.handle.ID, c.Members)
			}
		}
		if _, err := w.members[0].Registers().Read(t.Context(), past.Register{Bucket: past.SystemBucket, Space: past.SpaceHead, Key: "x"}); err != nil {
			t.Error(err)
		}
	}, storage|gateway, storage|gateway, storage|gateway)
}

// TestDamagedAlone: where nobody else has the state, the node goes on with what is left of it.
func TestDamagedAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.members[0].reportDamage(register.System)
		select {
		case err := <-w.members[0].ended:
			t.Fatalf("gave up the only copy: %v", err)
		case <-time.After(time.Minute):
		}
		if w.members[0].Replicated() {
			t.Error("the only copy is said to be at others")
		}
	}, storage|gateway)
}

// TestStarts: a disk counts its starts and stays the same incarnation; one that takes no writes offers no room; damaged memory is told.
func TestStarts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		m := w.members[1]
		incarnation := m.memory.incarnation
		if err := m.end(); err != nil {
			t.Fatal(err)
		}
		m.run()
		w.settle()
		if i, ok := w.members[0].sees(m); !ok || i.Boot != 2 || i.Incarnation != incarnation {
			t.Errorf("after a start it is seen as %+v", i)
		}
		m.disk.FailWrites(errors.New("read-only"))
		_ = m.memory.set(t.Context(), []byte("x"), 1) // the store finds out
		w.settle()
		if i, ok := w.members[0].sees(m); !ok || i.CapacityBytes != 0 || w.members[0].ring.Storage() != 1 {
			t.Errorf("with a disk that takes no writes it is seen as %+v", i)
		}
		m.disk.FailWrites(nil)
		store := memstore.New(memstore.Options{CapacityBytes: 1 << 20})
		var b blockstore.Batch
		b.Set(keyMemory, []byte{0xff})
		w.must(store.Apply(t.Context(), &b, true))
		if _, err := recall(t.Context(), store); !errors.Is(err, blockstore.ErrCorrupt) {
			t.Errorf("damaged memory: %v", err)
		}
	}, storage|gateway, storage)
}
