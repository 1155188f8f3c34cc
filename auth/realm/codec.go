package realm

import (
	"bytes"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// encMode writes core deterministic CBOR (RFC 8949 §4.2.1); decMode reads definite lengths only, no tags, no unknown or
// repeated fields, and arrays no longer than any of our messages has.
var encMode, decMode = codecModes()

// arrayMax bounds every array in our messages: sealing generations and seeds have tighter bounds of their own.
const arrayMax = 1024

func codecModes() (cbor.EncMode, cbor.DecMode) {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   8,
		MaxArrayElements:  arrayMax,
		MaxMapPairs:       64,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

// encode writes v, one of this package's own structs, which always can be encoded.
func encode(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic("realm: encode: " + err.Error())
	}
	return b
}

// decode reads data (at most sizeMax bytes) into v and refuses every encoding but the one that encode writes, so that equal
// contents are equal bytes.
func decode(data []byte, sizeMax int, v any) error {
	if len(data) > sizeMax {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrDamaged, len(data), sizeMax)
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	again, err := encMode.Marshal(v)
	if err != nil || !bytes.Equal(again, data) {
		return fmt.Errorf("%w: not in deterministic CBOR", ErrDamaged)
	}
	return nil
}
