package privatepg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// oldest is the first major version whose SQL we use.
const oldest = 14

// binaries are the two programs that are needed, and pg_ctl, which ends the server on Windows.
type binaries struct {
	initdb, postgres, ctl string
	major                 int
}

// findBinaries looks on the system, newest first, then asks Maven. major is the version an existing cluster needs; 0 is
// any that is not too old.
func findBinaries(ctx context.Context, o Options, as *account, major int) (binaries, error) {
	var seen []string // why each did not serve, for the error
	for _, dir := range systemDirs() {
		b, err := binariesIn(ctx, dir, as)
		switch {
		case errors.Is(err, errAbsent):
			continue
		case err != nil:
			seen = append(seen, err.Error())
			continue
		case b.major < oldest || major != 0 && b.major != major:
			seen = append(seen, fmt.Sprintf("%s is version %d", dir, b.major))
			continue
		}
		return b, nil
	}
	if major != 0 && major != newestRelease.major() {
		return binaries{}, fmt.Errorf("privatepg: %s holds data of PostgreSQL %d, and that version is not installed (found: %s): "+
			"install PostgreSQL %[2]d, or move the folder away to begin anew", clusterIn(o.Dir), major, list(seen))
	}
	b, err := mavenBinaries(ctx, o, as, newestRelease)
	if err != nil {
		return binaries{}, fmt.Errorf("privatepg: no PostgreSQL %d or newer on this system (found: %s), and none could be fetched: %w. "+
			"%s, or set DATABASE_URL to a Postgres that runs already", oldest, list(seen), err, howToInstall())
	}
	return b, nil
}

func list(seen []string) string {
	if len(seen) == 0 {
		return "none"
	}
	return strings.Join(seen, "; ")
}

func howToInstall() string {
	switch runtime.GOOS {
	case "darwin":
		return "Install it (brew install postgresql@17)"
	case "windows":
		return "Install it (winget install PostgreSQL.PostgreSQL.17)"
	}
	return "Install it (Debian and Ubuntu: apt install postgresql; Fedora: dnf install postgresql-server; Alpine: apk add postgresql)"
}

// systemDirs are the folders where packagers put the server's programs, most of them not on PATH, and then PATH.
func systemDirs() []string {
	var dirs []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",          // Debian, Ubuntu
		"/usr/pgsql-*/bin",                   // postgresql.org's packages for Red Hat
		"/usr/libexec/postgresql*",           // Alpine
		"/opt/homebrew/opt/postgresql@*/bin", // Homebrew
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		`C:\Program Files\PostgreSQL\*\bin`,
	} {
		found, _ := filepath.Glob(pattern) // fails for a malformed pattern only
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(versionIn(b), versionIn(a)) })
		dirs = append(dirs, found...)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	if config, err := exec.LookPath("pg_config"); err == nil {
		if out, err := exec.Command(config, "--bindir").Output(); err == nil {
			dirs = append(dirs, strings.TrimSpace(string(out)))
		}
	}
	return dirs
}

var number = regexp.MustCompile(`\d+`)

func versionIn(path string) int {
	n, _ := strconv.Atoi(number.FindString(path))
	return n
}

// errAbsent tells that a folder lacks the programs; some packages bring only the clients.
var errAbsent = errors.New("not there")

// binariesIn returns the programs of a folder after running one as the account, or errAbsent.
func binariesIn(ctx context.Context, dir string, as *account) (binaries, error) {
	exe := ""
	if runtime.GOOS == "windows" {
		exe = ".exe"
	}
	b := binaries{
		initdb:   filepath.Join(dir, "initdb"+exe),
		postgres: filepath.Join(dir, "postgres"+exe),
		ctl:      filepath.Join(dir, "pg_ctl"+exe),
	}
	for _, path := range []string{b.initdb, b.postgres} {
		if _, err := os.Stat(path); err != nil {
			return binaries{}, errAbsent
		}
	}
	var out []byte
	var err error
	for range 20 {
		out, err = command(ctx, as, b.postgres, "--version").CombinedOutput()
		if !errors.Is(err, syscall.ETXTBSY) {
			break
		}
		// Just unpacked, and a child that another goroutine is starting still holds it open for writing (golang.org/issue/22315).
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return binaries{}, fmt.Errorf("%s does not run: %w %s", b.postgres, err, strings.TrimSpace(string(out)))
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
	_, version, _ := strings.Cut(string(out), "(PostgreSQL)")
	if b.major = versionIn(version); b.major == 0 {
		return binaries{}, fmt.Errorf("%s does not tell its version: %s", b.postgres, strings.TrimSpace(string(out)))
	}
	return b, nil
}

// command runs a program of Postgres as the account. It gets none of our environment: PGDATA, PGPORT and locales of the
// caller would change what the server does.
func command(ctx context.Context, as *account, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/local/bin:/usr/bin:/bin"}
	if runtime.GOOS != "windows" {
		cmd.Dir = "/" // ours may be closed to the account
	}
	as.become(cmd)
	return cmd
}
