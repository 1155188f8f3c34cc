package diskstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"larder/blockstore"
)

// formatVersion is the layout of the directory. The file FORMAT says which one it is, as text.
const (
	formatVersion = 1
	formatFile    = "FORMAT"
	formatPrefix  = "larder blockstore format "
)

// checkFormat makes sure that dir is ours and of a format we know; an empty directory becomes so.
func checkFormat(fsys vfs.FS, dir string) error {
	path := fsys.PathJoin(dir, formatFile)
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFormat(fsys, dir, path)
	} else if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return err
	}
	v, ours := strings.CutPrefix(strings.TrimSpace(string(b)), formatPrefix)
	n, err := strconv.Atoi(v)
	switch {
	case !ours || err != nil:
		return fmt.Errorf("%s: file %s is not a blockstore's: %w", dir, formatFile, blockstore.ErrFormat)
	case n != formatVersion:
		return fmt.Errorf("%s has format %d and this release reads format %d: use a newer release: %w", dir, n, formatVersion, blockstore.ErrFormat)
	}
	return nil
}

// writeFormat claims dir, if nothing of anybody's is in it but our lock and a claim that was cut short.
func writeFormat(fsys vfs.FS, dir, path string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n != lockFile && n != formatFile+".new" && n != "lost+found" {
			return fmt.Errorf("%s holds %q and no file %s: not a blockstore: %w", dir, n, formatFile, blockstore.ErrFormat)
		}
	}
	f, err := fsys.Create(path+".new", fragmentsCategory)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s%d\n", formatPrefix, formatVersion)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(fsys, dir)
}
