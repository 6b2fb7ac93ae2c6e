//go:build !windows

package privatepg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom Postgres runs as. nil is ourselves; its methods then have nothing to change.
type account struct {
	name     string
	uid, gid uint32
}

// serverAccount chooses the account. Root keeps an existing cluster with its owner, so that whoever made it can use it
// again; a new one is for postgres, else for nobody.
func serverAccount(cluster string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(cluster); cluster != "" && err == nil {
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
			u, err := user.LookupId(strconv.FormatUint(uint64(owner), 10))
			if err != nil {
				return nil, fmt.Errorf("privatepg: the owner of %s: %w", cluster, err)
			}
			return newAccount(u)
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return newAccount(u)
		}
	}
	return nil, errors.New("privatepg: Postgres refuses to run as root, and there is neither a user postgres nor a user " +
		"nobody to run it as: make one (useradd --system postgres), or run this as an ordinary user")
}

func newAccount(u *user.User) (*account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("privatepg: user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("privatepg: user %s: %w", u.Username, err)
	}
	return &account{name: u.Username, uid: uint32(uid), gid: uint32(gid)}, nil
}

// become makes cmd run as the account, apart from our process group: a terminal's Ctrl-C is for us, and we stop Postgres
// when nobody needs it any more.
func (a *account) become(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
}

// makeDir makes a folder that belongs to the account alone.
func (a *account) makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return fmt.Errorf("privatepg: %w", err)
	}
	return a.own(path)
}

// makePath makes what is missing of a path, open for passing through whatever root's umask says; what was there stays as it is.
func (a *account) makePath(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := a.makePath(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if a == nil {
		return nil
	}
	return os.Chmod(path, 0o755)
}

func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("privatepg: %w", err)
	}
	return nil
}

// letEnter opens a folder of ours to the account, for passing through only.
func (a *account) letEnter(dir string) error {
	if a == nil {
		return nil
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	return a.canEnter(dir)
}

// canEnter tries rather than reads permissions, so that access lists and mount options count too: a child that has become
// the account changes into dir.
func (a *account) canEnter(dir string) error {
	if a == nil {
		return nil
	}
	here := exec.Command("/bin/sh", "-c", ":")
	here.Dir = "/"
	a.become(here)
	if err := here.Run(); err != nil {
		return fmt.Errorf("privatepg: we are root, but may not run a program as the user %s; run this as an ordinary user: %w", a.name, err)
	}
	there := exec.Command("/bin/sh", "-c", ":")
	there.Dir = dir
	a.become(there)
	if err := there.Run(); err != nil {
		return &unreachable{dir: dir, account: a.name, cause: err}
	}
	return nil
}

type unreachable struct {
	dir, account string
	cause        error
}

func (e *unreachable) Error() string {
	return fmt.Sprintf("privatepg: Postgres refuses to run as root and runs as the user %s, who cannot enter %s (%s): "+
		"choose a folder outside root's home, for instance below /var/lib, or run this as an ordinary user",
		e.account, e.dir, firstClosed(e.dir))
}

func (e *unreachable) Unwrap() error { return e.cause }

// firstClosed names the folder on the way to dir that keeps others out, as far as the mode tells.
func firstClosed(dir string) string {
	closed := "permission denied"
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			closed = fmt.Sprintf("%s is %s", dir, info.Mode())
		}
	}
	return closed
}
