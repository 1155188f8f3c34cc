package objects

import (
	"context"
	"strings"

	"larder/gateway"
	"larder/past"
)

// List implements gateway.Backend.
func (s *Store) List(ctx context.Context, bucketName string, q gateway.ListQuery) (page gateway.ListPage, err error) {
	err = s.withBucket(ctx, bucketName, func(b *bucket) error {
		if q.Max == 0 {
			return nil
		}
		scan := past.ScanQuery{Bucket: b.id, Space: past.SpaceHead, Prefix: q.Prefix, Delimiter: q.Delimiter, Max: q.Max}
		scan.After, scan.AfterPrefix = after(q.Prefix, q.Delimiter, q.After)
		got, err := s.past.Scan(ctx, scan)
		if err != nil {
			return s.closedOr("list", false, err)
		}
		page = gateway.ListPage{Truncated: got.Truncated}
		for i := range got.Entries {
			e := &got.Entries[i]
			if e.CommonPrefix != "" {
				page.CommonPrefixes = append(page.CommonPrefixes, e.CommonPrefix)
				page.Next = e.CommonPrefix
				continue
			}
			v, _, err := s.head(b.register(past.SpaceHead, e.Key, e.Sub), &e.Record)
			if err != nil {
				return err
			}
			page.Objects = append(page.Objects, *v.object(e.Key, &e.Record))
			page.Next = e.Key
		}
		return nil
	})
	return page, err
}

// after says where a scan goes on: past all of the common prefix that marker is or lies in, since that sorts before marker.
func after(prefix, delimiter, marker string) (from string, whole bool) {
	if folded := commonPrefix(marker, prefix, delimiter); folded != "" {
		return folded, true
	}
	return marker, false
}

// commonPrefix is what key folds to, "" if to nothing.
func commonPrefix(key, prefix, delimiter string) string {
	if delimiter == "" || !strings.HasPrefix(key, prefix) {
		return ""
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return ""
	}
	return key[:len(prefix)+i+len(delimiter)]
}
