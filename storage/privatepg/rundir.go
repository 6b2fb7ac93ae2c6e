package privatepg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

const (
	runPrefix = "countersign-pg-"
	socketDir = "s"
	lockFile  = "lock"
)

// runDir is the temporary folder of one server.
type runDir struct {
	path  string
	short bool     // enough for a Unix socket's address (108 bytes on Linux, 104 on BSD and macOS, with a final zero)
	lock  *os.File // held as long as we live, so that later starts know a folder that nobody uses any more
}

// makeRunDir makes the folder, in memory if that is wanted and possible.
func makeRunDir(as *account, inMemory bool) (*runDir, error) {
	roots := []string{os.TempDir()}
	if runtime.GOOS != "windows" && roots[0] != "/tmp" {
		roots = append(roots, "/tmp") // the usual one may be deep, or private to root
	}
	if memory := memoryDir(); inMemory && memory != "" {
		roots = append([]string{memory}, roots...)
	}
	var failed []error
	for i, root := range roots {
		forgetOrphans(root)
		d, err := makeRunDirIn(root, as)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if d.short || i == len(roots)-1 {
			return d, nil
		}
		d.remove()
	}
	return nil, fmt.Errorf("privatepg: no temporary folder to be had in %s: %w", strings.Join(roots, " or "), errors.Join(failed...))
}

func makeRunDirIn(root string, as *account) (*runDir, error) {
	path, err := os.MkdirTemp(root, runPrefix+"*")
	if err != nil {
		return nil, err
	}
	d := &runDir{path: path, short: len(filepath.Join(path, socketDir, ".s.PGSQL."+strconv.Itoa(port))) < 104}
	if d.lock, err = os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600); err == nil && !tryLock(d.lock) {
		err = errors.New("a new file is locked")
	}
	if err == nil {
		err = as.letEnter(path)
	}
	if err != nil {
		d.remove()
		return nil, err
	}
	return d, nil
}

func (d *runDir) remove() error {
	err := os.RemoveAll(d.path)
	if d.lock != nil {
		d.lock.Close()
	}
	return err
}

// forgetOrphans removes folders whose process was killed together with the guard.
func forgetOrphans(root string) {
	left, _ := filepath.Glob(filepath.Join(root, runPrefix+"*"))
	for _, path := range left {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < time.Minute {
			continue // a young one may not have its lock yet
		}
		lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR, 0)
		if err != nil {
			continue // somebody else's
		}
		if tryLock(lock) {
			os.RemoveAll(path)
		}
		lock.Close()
	}
}
