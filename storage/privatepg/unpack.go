package privatepg

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ulikunitz/xz"
)

// largestTree bounds what an archive may become; the largest one today has 308 MB.
const largestTree = 1 << 30

// unpackJar unpacks the .txz that is in a jar into the new folder dir.
func unpackJar(file, dir string) error {
	jar, err := zip.OpenReader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	defer jar.Close()
	for _, f := range jar.File {
		if !strings.HasSuffix(f.Name, ".txz") {
			continue
		}
		packed, err := f.Open()
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		defer packed.Close()
		tree, err := xz.NewReader(packed)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		if err := unpackTar(tree, dir); err != nil {
			return fmt.Errorf("%s: %w", f.Name, err)
		}
		return nil
	}
	return fmt.Errorf("%s holds no .txz", file)
}

// unpackTar writes an archive below the new folder dir and nowhere else: os.Root refuses names that lead out of it, also by
// way of symbolic links. Links themselves may only point to a file beside them (libpq.so to libpq.so.5.17); any path would
// have to be resolved through other links before one could call it harmless.
func unpackTar(from io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Chmod(".", 0o755); err != nil {
		return err
	}
	left := int64(largestTree)
	for archive := tar.NewReader(from); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("unpacks to more than %d MB", largestTree>>20)
		}
		if err := unpackEntry(root, h, archive); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, content io.Reader) error {
	name := path.Clean(h.Name)
	if !filepath.IsLocal(name) {
		return errors.New("leads out of the folder")
	}
	if err := makeFolder(root, path.Dir(name)); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return makeFolder(root, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Chmod(0o644|os.FileMode(h.Mode)&0o111), f.Close())
	case tar.TypeSymlink:
		if strings.ContainsAny(h.Linkname, `/\`) || !filepath.IsLocal(h.Linkname) {
			return fmt.Errorf("a link to %q, which is not a neighbour", h.Linkname)
		}
		return root.Symlink(h.Linkname, name)
	}
	return fmt.Errorf("neither a file, a folder nor a symbolic link (type %q)", h.Typeflag)
}

// makeFolder sets the mode apart, because another account must enter although root's umask may be strict.
func makeFolder(root *os.Root, name string) error {
	if _, err := root.Stat(name); err == nil {
		return nil
	}
	if err := root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	return root.Chmod(name, 0o755)
}
