package objects

import (
	"context"
	"errors"
	"strings"

	"larder/gateway"
	"larder/past"
)

// ListUploads implements gateway.Backend. It seeks past the parts of each object key, so that its cost is about what it returns.
func (s *Store) ListUploads(ctx context.Context, bucketName string, q gateway.UploadQuery) (page gateway.UploadPage, err error) {
	err = s.withBucket(ctx, bucketName, func(b *bucket) error {
		page = gateway.UploadPage{}
		if q.Max == 0 {
			return nil
		}
		scan := past.ScanQuery{Bucket: b.id, Space: past.SpaceUpload, Prefix: q.Prefix}
		scan.After, scan.AfterPrefix = after(q.Prefix, q.Delimiter, q.KeyMarker)
		if scan.After != "" && !scan.AfterPrefix {
			scan.AfterSub = afterSubs
			if q.UploadIDAfter != "" {
				scan.AfterSub = uploadSub + q.UploadIDAfter
			}
		}
		return s.walkUploads(ctx, b, scan, func(u upload, v *uploadValue) (skip string, err error) {
			if v.State == stateCompleted {
				return "", nil
			}
			if len(page.Uploads)+len(page.CommonPrefixes) == q.Max {
				page.Truncated = true
				return "", errStop
			}
			if folded := commonPrefix(u.key, q.Prefix, q.Delimiter); folded != "" {
				page.CommonPrefixes = append(page.CommonPrefixes, folded)
				page.NextKey, page.NextUpload = folded, ""
				return folded, nil
			}
			page.Uploads = append(page.Uploads, u.out(v))
			page.NextKey, page.NextUpload = u.key, u.id
			return "", nil
		})
	})
	return page, err
}

// errStop ends a walk without error.
var errStop = errors.New("stop")

// walkUploads calls f for each upload register from where scan begins. Where f returns a prefix, it goes on after all keys that
// have it. errStop ends the walk.
func (s *Store) walkUploads(ctx context.Context, b *bucket, scan past.ScanQuery, f func(u upload, v *uploadValue) (skip string, err error)) error {
	const least = 64
	for scan.Max = least; ; {
		got, err := s.past.Scan(ctx, scan)
		if err != nil {
			return s.closedOr("list uploads", false, err)
		}
		sought := false
		for i := 0; i < len(got.Entries) && !sought; i++ {
			e := &got.Entries[i]
			scan.After, scan.AfterSub, scan.AfterPrefix = e.Key, e.Sub, false
			if !strings.HasPrefix(e.Sub, uploadSub) { // the first part of a key: seek past all
				scan.AfterSub, sought = afterSubs, true
				continue
			}
			u := upload{b, e.Key, e.Sub[len(uploadSub):]}
			v, err := s.decodeUpload(u, &e.Record)
			if err != nil {
				return err
			}
			skip, err := f(u, v)
			if err == errStop {
				return nil
			}
			if err != nil {
				return err
			}
			if skip != "" {
				scan.After, scan.AfterSub, scan.AfterPrefix, sought = skip, "", true, true
			}
		}
		if sought {
			scan.Max = least
			continue
		}
		if !got.Truncated || len(got.Entries) == 0 {
			return nil
		}
		scan.Max = min(2*scan.Max, scanPage)
	}
}
