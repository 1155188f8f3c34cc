package register

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"larder/past"
	"larder/pastry"

	"github.com/fxamacker/cbor/v2"
	"github.com/zeebo/blake3"
)

// PartitionID names a partition for ever. It is random, except that the system partition's is zero.
type PartitionID [16]byte

// System is the partition that everything else is reached from.
var System PartitionID

// String returns 32 hexadecimal digits.
func (id PartitionID) String() string { return hex.EncodeToString(id[:]) }

// MemberID is one disk of one node: a wiped or rolled-back disk is a new incarnation, and therefore not the member it was.
type MemberID struct {
	_           struct{} `cbor:",toarray"`
	Node        pastry.NodeID
	Incarnation uint64
	PublicKey   [32]byte // Ed25519, of the node; its nodeId follows from it
}

// Configuration is who holds a partition in one epoch.
type Configuration struct {
	Partition PartitionID   `cbor:"1,keyasint"`
	Epoch     uint64        `cbor:"2,keyasint"`
	Bucket    past.BucketID `cbor:"3,keyasint"`
	Members   []MemberID    `cbor:"4,keyasint"` // at most MembersMax; their order is what Members sets refer to
	Lower     string        `cbor:"5,keyasint,omitempty"`
	Upper     string        `cbor:"6,keyasint,omitempty"` // object keys in [Lower, Upper); empty: no bound
	// Closed says that no operation is answered in this epoch: the bucket is being deleted.
	Closed bool `cbor:"7,keyasint,omitempty"`
	// RecordKey is the bucket's Ed25519 public key, which proves its records.
	RecordKey [32]byte `cbor:"8,keyasint"`
}

// Index returns m's place in c, or -1.
func (c *Configuration) Index(m MemberID) int { return slices.Index(c.Members, m) }

// IndexNode returns the place of the node's member in c, whatever its incarnation, or -1.
func (c *Configuration) IndexNode(id pastry.NodeID) int {
	return slices.IndexFunc(c.Members, func(m MemberID) bool { return m.Node == id })
}

// has reports whether place is a member's place in c.
func (c *Configuration) has(place int) bool { return place >= 0 && place < len(c.Members) }

// Quorum is the number of members that make a majority of c.
func (c *Configuration) Quorum() int { return Majority(len(c.Members)) }

// Contains reports whether c's range holds the object key.
func (c *Configuration) Contains(objectKey string) bool {
	return c.Lower <= objectKey && (c.Upper == "" || objectKey < c.Upper)
}

// Succession is what the members of one configuration choose: what comes after it. One successor is a change of members
// or of the Closed flag; two, with touching ranges, are a split.
type Succession struct {
	Partition PartitionID     `cbor:"1,keyasint"`
	Epoch     uint64          `cbor:"2,keyasint"` // of the configuration that chooses
	Next      []Configuration `cbor:"3,keyasint"`
}

// Certificate proves that a Succession was chosen: the votes of a majority for it at one ballot.
type Certificate struct {
	Succession Succession  `cbor:"1,keyasint"`
	Ballot     past.Ballot `cbor:"2,keyasint"`
	Votes      []Vote      `cbor:"3,keyasint"`
}

// Vote is one member's signature over Succession and ballot, by its node key.
type Vote struct {
	_         struct{} `cbor:",toarray"`
	Member    int      // its place in the configuration that chooses
	Signature []byte
}

// Lineage is how a partition came to its present configuration: its genesis, and a certificate for each change since.
// What proves the genesis is not in it: the realm's signature for the system partition, a record there for all others.
type Lineage struct {
	Genesis      Configuration `cbor:"1,keyasint"`
	Certificates []Certificate `cbor:"2,keyasint,omitempty"`
}

var encoding = func() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// VoteMessage is the bytes that a vote signs.
func VoteMessage(s *Succession, b past.Ballot) []byte {
	body, err := encoding.Marshal([]any{s, b})
	if err != nil {
		panic(fmt.Sprintf("register: encode succession: %v", err)) // plain structs of plain fields
	}
	sum := blake3.Sum256(body)
	return append([]byte("larder/1 succession\x00"), sum[:]...)
}

// Errors of a lineage that does not hold together.
var (
	ErrLineage = errors.New("register: broken lineage")
)

// Current returns the newest configuration.
func (l *Lineage) Current() *Configuration {
	if n := len(l.Certificates); n > 0 {
		return l.Certificates[n-1].Succession.successor(l.Genesis.Partition)
	}
	return &l.Genesis
}

// Epoch is the newest epoch.
func (l *Lineage) Epoch() uint64 { return l.Genesis.Epoch + uint64(len(l.Certificates)) }

// At returns the configuration of an epoch, or nil.
func (l *Lineage) At(epoch uint64) *Configuration {
	switch i := epoch - l.Genesis.Epoch; {
	case epoch < l.Genesis.Epoch || i > uint64(len(l.Certificates)):
		return nil
	case i == 0:
		return &l.Genesis
	default:
		return l.Certificates[i-1].Succession.successor(l.Genesis.Partition)
	}
}

// Extend adds a certificate that follows on l's newest configuration. The caller has verified it.
func (l Lineage) Extend(c Certificate) Lineage {
	l.Certificates = append(slices.Clip(slices.Clone(l.Certificates)), c)
	return l
}

// successor returns the configuration that goes on under the same partition id.
func (s *Succession) successor(id PartitionID) *Configuration {
	for i := range s.Next {
		if s.Next[i].Partition == id {
			return &s.Next[i]
		}
	}
	return nil
}

// Verifier checks one signature of a member's node key over message.
type Verifier func(m MemberID, message, signature []byte) error

// Verify checks every certificate of l against the configuration before it. It says nothing of the genesis: the caller
// compares that with what he trusts. Errors wrap ErrLineage.
func (l *Lineage) Verify(check Verifier) error {
	if err := l.Genesis.valid(); err != nil {
		return fmt.Errorf("%w: genesis: %w", ErrLineage, err)
	}
	current := &l.Genesis
	for i := range l.Certificates {
		if err := l.Certificates[i].Verify(current, check); err != nil {
			return err
		}
		current = l.Certificates[i].Succession.successor(l.Genesis.Partition)
	}
	return nil
}

// Verify checks that a majority of the members of from chose c's succession. Errors wrap ErrLineage.
func (c *Certificate) Verify(from *Configuration, check Verifier) error {
	if err := c.Succession.follows(from); err != nil {
		return fmt.Errorf("%w: epoch %d: %w", ErrLineage, from.Epoch, err)
	}
	message := VoteMessage(&c.Succession, c.Ballot)
	var voters Members
	for _, v := range c.Votes {
		if v.Member < 0 || v.Member >= len(from.Members) {
			return fmt.Errorf("%w: epoch %d: vote of member %d of %d", ErrLineage, from.Epoch, v.Member, len(from.Members))
		}
		if err := check(from.Members[v.Member], message, v.Signature); err != nil {
			return fmt.Errorf("%w: epoch %d: vote of %v: %w", ErrLineage, from.Epoch, from.Members[v.Member].Node, err)
		}
		voters |= 1 << v.Member
	}
	if voters.Count() < from.Quorum() {
		return fmt.Errorf("%w: epoch %d: %d votes of %d members", ErrLineage, from.Epoch, voters.Count(), len(from.Members))
	}
	return nil
}

// follows checks that s may come after from: next epoch, same bucket and key, ranges that fill from's without overlap.
func (s *Succession) follows(from *Configuration) error {
	if s.Partition != from.Partition || s.Epoch != from.Epoch {
		return fmt.Errorf("succession of partition %v epoch %d", s.Partition, s.Epoch)
	}
	if len(s.Next) < 1 || len(s.Next) > 2 || s.successor(from.Partition) == nil {
		return fmt.Errorf("%d successors", len(s.Next))
	}
	lower := from.Lower
	for i := range s.Next {
		c := &s.Next[i]
		if err := c.valid(); err != nil {
			return err
		}
		if c.Epoch != from.Epoch+1 || c.Bucket != from.Bucket || c.RecordKey != from.RecordKey || c.Lower != lower {
			return fmt.Errorf("successor %d: epoch %d, range from %q", i, c.Epoch, c.Lower)
		}
		lower = c.Upper
	}
	if lower != from.Upper {
		return fmt.Errorf("successors end at %q instead of %q", lower, from.Upper)
	}
	return nil
}

func (c *Configuration) valid() error {
	if len(c.Members) == 0 || len(c.Members) > MembersMax {
		return fmt.Errorf("%d members", len(c.Members))
	}
	for i, m := range c.Members {
		if slices.ContainsFunc(c.Members[:i], func(o MemberID) bool { return o.Node == m.Node }) {
			return fmt.Errorf("member %v twice", m.Node)
		}
	}
	if c.Upper != "" && c.Upper <= c.Lower {
		return fmt.Errorf("range [%q, %q) is empty", c.Lower, c.Upper)
	}
	return nil
}
