package pkb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"

	"larder/past"
	"larder/past/register"
)

// Keys in the store's ordered entries. All integers big-endian.
//
//	'm' partition 16                      register.Member, CBOR
//	'g' partition 16 | epoch 8 | group    register.Group without bodies, CBOR
//	'b' partition 16 | epoch 8 | group    the entries' bodies, CBOR
//
// A group's name keeps the order of (space, object key, sub): space 1 | object key, 0x00 written 0x00 0xff | 0x00 0x01 | sub.
const (
	tagMember = 'm'
	tagGroup  = 'g'
	tagBody   = 'b'
)

func memberKey(p register.PartitionID) []byte { return append([]byte{tagMember}, p[:]...) }

// rowKey is the key of a group's row; with an empty group, the lower bound of an epoch's rows.
func rowKey(tag byte, p register.PartitionID, epoch uint64, group string) []byte {
	k := make([]byte, 0, 1+16+8+len(group))
	k = append(k, tag)
	k = append(k, p[:]...)
	k = binary.BigEndian.AppendUint64(k, epoch)
	return append(k, group...)
}

const rowPrefixLen = 1 + 16 + 8

// after returns the smallest key above every key with the given prefix, nil if there is none.
func after(prefix []byte) []byte {
	out := bytes.Clone(prefix)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out[:i+1]
		}
	}
	return nil
}

var errGroupName = errors.New("past/pkb: bad group name")

// groupName is the name of the group that holds the register.
func groupName(space past.Space, key, sub string) string {
	return keyPrefix(space, key) + "\x00\x01" + sub
}

// keyPrefix begins the names of all groups whose object key begins with prefix.
func keyPrefix(space past.Space, prefix string) string {
	return string(rune(space)) + strings.ReplaceAll(prefix, "\x00", "\x00\xff")
}

// parseGroup is the inverse of groupName.
func parseGroup(group string) (space past.Space, key, sub string, err error) {
	if group == "" || group[0] > 0x7f {
		return 0, "", "", errGroupName
	}
	var b strings.Builder
	for i := 1; i < len(group); i++ {
		if group[i] != 0 {
			b.WriteByte(group[i])
			continue
		}
		if i++; i == len(group) {
			break
		}
		switch group[i] {
		case 0xff:
			b.WriteByte(0)
		case 0x01:
			return past.Space(group[0]), b.String(), group[i+1:], nil
		default:
			return 0, "", "", errGroupName
		}
	}
	return 0, "", "", errGroupName
}
