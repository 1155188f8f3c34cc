package stripe

import (
	"fmt"
	"sync"

	"larder/past"

	"github.com/klauspost/reedsolomon"
	"github.com/zeebo/blake3"
)

// EncodedLen is the room that all fragments of length sealed bytes take side by side. Encode allocates nothing for them if
// its argument has that capacity.
func EncodedLen(length int, r past.Redundancy) int {
	if r.Data == 1 {
		return length
	}
	return r.Total() * shardLen(length, r.Data)
}

// Encode codes sealed bytes and names them. fragments are the bytes of fragments 0 … d+p-1; those of data are parts of
// sealed, whose capacity beyond its length is overwritten where it reaches EncodedLen. With d = 1 all are sealed itself.
// It panics if r is not valid or sealed is not of a length that Seal makes.
func Encode(sealed []byte, r past.Redundancy) (h Header, fragments [][]byte) {
	if _, ok := PlainLen(len(sealed)); !ok || len(sealed) > SealedMax || !r.Valid() {
		panic(fmt.Sprintf("stripe: %d sealed bytes as %d + %d", len(sealed), r.Data, r.Parity))
	}
	h = Header{Redundancy: r, Length: len(sealed), Hashes: make([]Hash, r.Total())}
	fragments = make([][]byte, r.Total())
	if r.Data == 1 {
		hash := blake3.Sum256(sealed)
		for i := range fragments {
			fragments[i], h.Hashes[i] = sealed, hash
		}
		return h, fragments
	}
	s := h.ShardLen()
	for i, part := range splitData(sealed, r) {
		fragments[i] = part
	}
	parity := room(sealed[len(sealed):cap(sealed)], r.Data*s-len(sealed), r.Parity*s)
	for i := range r.Parity {
		fragments[r.Data+i] = parity[i*s : (i+1)*s : (i+1)*s]
	}
	if err := coder(r).Encode(fragments); err != nil {
		panic(err) // all shards are s > 0 bytes long
	}
	hashAll(h.Hashes, fragments)
	return h, fragments
}

// splitData cuts sealed into d shards, filled up with zeros within its capacity, or in new memory where that is too small.
func splitData(sealed []byte, r past.Redundancy) [][]byte {
	s := shardLen(len(sealed), r.Data)
	shards := make([][]byte, r.Data)
	whole := sealed
	if cap(sealed) >= r.Data*s {
		whole = sealed[:r.Data*s]
		clear(whole[len(sealed):])
	}
	for i := range shards {
		from, to := min(i*s, len(whole)), min((i+1)*s, len(whole))
		shards[i] = whole[from:to:to]
		if to-from < s {
			shards[i] = append(make([]byte, 0, s), shards[i]...)[:s]
		}
	}
	return shards
}

// room returns n bytes of spare from offset skip, or new ones if it is too short.
func room(spare []byte, skip, n int) []byte {
	if len(spare) >= skip+n {
		return spare[skip : skip+n]
	}
	return make([]byte, n)
}

// hashAll hashes the fragments, two at a time where they are large: BLAKE3 is the dearest step, and a start costs 1 µs.
func hashAll(hashes []Hash, fragments [][]byte) {
	const worthwhileBytes = 32 << 10
	half := len(fragments) / 2
	if len(fragments[0]) < worthwhileBytes {
		half = 0
	}
	var wg sync.WaitGroup
	if half > 0 {
		wg.Go(func() {
			for i := range half {
				hashes[i] = blake3.Sum256(fragments[i])
			}
		})
	}
	for i := half; i < len(fragments); i++ {
		hashes[i] = blake3.Sum256(fragments[i])
	}
	wg.Wait()
}

// Join appends the sealed bytes to dst, from the bytes of any d fragments; fragments has d + p entries, nil where missing. It
// checks lengths but no hashes: the proof is Key.Open, and where that fails, Decode finds who is wrong. Missing data shards are
// filled into fragments. Errors: past.ErrDamaged if fewer than d are there.
func Join(dst []byte, h *Header, fragments [][]byte) ([]byte, error) {
	for i, f := range fragments {
		if len(f) != h.ShardLen() {
			fragments[i] = nil
		}
	}
	if h.Redundancy.Data == 1 {
		for _, f := range fragments {
			if f != nil {
				return append(dst, f...), nil
			}
		}
		return dst, fmt.Errorf("%w: none of %d", past.ErrDamaged, len(fragments))
	}
	if err := FillData(h.Redundancy, fragments); err != nil {
		return dst, err
	}
	left := h.Length
	for _, f := range fragments[:h.Redundancy.Data] {
		n := min(left, len(f))
		dst = append(dst, f[:n]...)
		left -= n
	}
	return dst, nil
}

// FillData computes the missing (nil) data shards from any d shards of equal length. Since the code works column by column, the
// shards may be equal ranges of fragments instead of whole ones. Errors: past.ErrDamaged if fewer than d are there.
func FillData(r past.Redundancy, shards [][]byte) error {
	have, missing, length := 0, false, 0
	for i, s := range shards {
		if s != nil {
			have, length = have+1, len(s)
		} else if i < r.Data {
			missing = true
		}
	}
	if len(shards) != r.Total() || have < r.Data {
		return fmt.Errorf("%w: %d of %d, want %d", past.ErrDamaged, have, r.Total(), r.Data)
	}
	if !missing || length == 0 {
		return nil
	}
	if r.Data == 1 {
		for _, s := range shards {
			if s != nil {
				shards[0] = s
			}
		}
		return nil
	}
	if err := coder(r).ReconstructData(shards); err != nil {
		return fmt.Errorf("stripe: reconstruct: %w", err)
	}
	return nil
}

// Decode appends the sealed bytes to dst from fragments of which some may be missing (nil) or wrong. It checks every hash; bad
// are the indexes of those that fail, which it sets to nil. Errors: past.ErrDamaged if fewer than d are good.
func Decode(dst []byte, h *Header, fragments [][]byte) (sealed []byte, bad []int, err error) {
	bad = dropBad(h, fragments)
	sealed, err = Join(dst, h, fragments)
	return sealed, bad, err
}

func dropBad(h *Header, fragments [][]byte) (bad []int) {
	for i, f := range fragments {
		if f != nil && !h.Verify(i, f) {
			bad = append(bad, i)
			fragments[i] = nil
		}
	}
	return bad
}

// Rebuild makes the bytes of fragment index from d others. It checks the others and the result against the header's hashes,
// so that what it returns is the fragment. bad is as in Decode. With d = 1 the result is one of fragments itself.
// Errors: past.ErrDamaged if fewer than d are good, ErrInconsistent if good ones give another fragment than the header names.
func Rebuild(h *Header, index int, fragments [][]byte) (data []byte, bad []int, err error) {
	r := h.Redundancy
	if index < 0 || index >= r.Total() || len(fragments) != r.Total() {
		return nil, nil, fmt.Errorf("%w: fragment %d of %d", ErrFormat, index, r.Total())
	}
	fragments[index] = nil
	bad = dropBad(h, fragments)
	have := 0
	for _, f := range fragments {
		if f != nil {
			have, data = have+1, f
		}
	}
	if have < r.Data {
		return nil, bad, fmt.Errorf("%w: %d good of %d, want %d", past.ErrDamaged, have, r.Total(), r.Data)
	}
	if r.Data > 1 {
		required := make([]bool, r.Total())
		required[index] = true
		if err := coder(r).ReconstructSome(fragments, required); err != nil {
			return nil, bad, fmt.Errorf("stripe: reconstruct: %w", err)
		}
		data = fragments[index]
	}
	if !h.Verify(index, data) {
		return nil, bad, ErrInconsistent
	}
	return data, bad, nil
}

// ShardRange is a range of one data shard: bytes From to To of fragment Index.
type ShardRange struct{ Index, From, To int }

// ShardRanges returns which ranges of which data shards hold sealed[from:to], in order.
func ShardRanges(r past.Redundancy, length, from, to int) []ShardRange {
	s := shardLen(length, r.Data)
	var out []ShardRange
	for from < to {
		i := from / s
		end := min(to, (i+1)*s)
		out = append(out, ShardRange{Index: i, From: from - i*s, To: end - i*s})
		from = end
	}
	return out
}

// coders keeps one encoder for each (d, p): its matrix costs 20 µs, and it caches inversions.
var coders sync.Map // past.Redundancy -> reedsolomon.Encoder

func coder(r past.Redundancy) reedsolomon.Encoder {
	if c, ok := coders.Load(r); ok {
		return c.(reedsolomon.Encoder)
	}
	c, err := reedsolomon.New(r.Data, r.Parity, reedsolomon.WithMaxGoroutines(2), reedsolomon.WithMinSplitSize(64<<10))
	if err != nil {
		panic(fmt.Sprintf("stripe: %d + %d: %v", r.Data, r.Parity, err)) // callers have checked Valid
	}
	kept, _ := coders.LoadOrStore(r, c)
	return kept.(reedsolomon.Encoder)
}
