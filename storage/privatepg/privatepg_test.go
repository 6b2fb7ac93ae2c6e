//go:build !windows

package privatepg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// openDir is a temporary folder that any account can reach; t.TempDir is closed to the one Postgres gets from root.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "countersign-test-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustStart(t *testing.T, o Options) *Server {
	t.Helper()
	began := time.Now()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop() })
	t.Logf("%s answers after %s", s.binaries.postgres, time.Since(began).Round(time.Millisecond))
	return s
}

// query returns the one text that sql gives.
func query(t *testing.T, s *Server, sql string) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var text string
	if err := conn.QueryRow(ctx, sql).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil {
		_, state, _ := strings.Cut(string(stat), ") ")
		return !strings.HasPrefix(state, "Z") // a dead orphan whose new parent has not looked yet
	}
	return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
}

// within waits for a condition that another process brings about.
func within(t *testing.T, patience time.Duration, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !true(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func TestStart_ThrowAway(t *testing.T) {
	t.Parallel()
	s := mustStart(t, Options{Settings: map[string]string{"work_mem": "5MB"}})
	for setting, want := range map[string]string{
		"server_encoding": "UTF8", "lc_collate": "C", "timezone": "UTC", "listen_addresses": "",
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "work_mem": "5MB",
	} {
		sql := fmt.Sprintf("SELECT current_setting('%s')", setting)
		if setting == "lc_collate" { // no setting any more since version 16
			sql = "SELECT datcollate FROM pg_database WHERE datname = current_database()"
		}
		if got := query(t, s, sql); got != want {
			t.Errorf("%s = %q, want %q", setting, got, want)
		}
	}
	if !alive(s.PID()) {
		t.Error("PID() is not a running process")
	}
	info, err := os.Stat(filepath.Join(s.run.path, socketDir))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's folder is %v, %v; want mode 0700", info.Mode(), err)
	}

	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if alive(s.PID()) {
		t.Error("runs after Stop")
	}
	if _, err := os.Stat(s.run.path); !os.IsNotExist(err) {
		t.Errorf("%s is still there after Stop", s.run.path)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("second Stop: %v", err)
	}
}

func TestStart_KeepsDir(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := mustStart(t, Options{Dir: dir, Durable: true})
	if got := query(t, s, "SELECT current_setting('fsync')"); got != "on" {
		t.Errorf("fsync = %s, want on", got)
	}
	exec1(t, s, "CREATE TABLE kept AS SELECT 'hello' AS word")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again := mustStart(t, Options{Dir: dir, Durable: true})
	if got := query(t, again, "SELECT word FROM kept"); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func exec1(t *testing.T, s *Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestStart_TwoOverOneDir(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	mustStart(t, Options{Dir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s, err := Start(ctx, Options{Dir: dir})
	if err == nil {
		s.Stop()
		t.Fatal("a second server started over the same folder")
	}
	t.Log(err)
}

// A crash leaves postmaster.pid. Its number may by now belong to any other process.
func TestStart_AfterCrash(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	s := mustStart(t, Options{Dir: dir, Durable: true})
	exec1(t, s, "CREATE TABLE kept AS SELECT 'hello' AS word")
	syscall.Kill(s.PID(), syscall.SIGKILL)
	<-s.process.ended
	if err := s.Stop(); err == nil {
		t.Error("Stop does not tell that the server was gone")
	}

	pidFile := filepath.Join(dir, "data", "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("stale", func(t *testing.T) {
		again := mustStart(t, Options{Dir: dir, Durable: true})
		if got := query(t, again, "SELECT word FROM kept"); got != "hello" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("number reused", func(t *testing.T) {
		other := command(t.Context(), mustAccount(t, filepath.Join(dir, "data")), "/bin/sleep", "60")
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		defer other.Wait()
		defer other.Process.Kill()
		_, rest, _ := strings.Cut(string(text), "\n")
		reused := strconv.Itoa(other.Process.Pid) + "\n" + rest
		if err := os.WriteFile(pidFile, []byte(reused), 0o600); err != nil {
			t.Fatal(err)
		}
		mustStart(t, Options{Dir: dir})
	})
}

func mustAccount(t *testing.T, data string) *account {
	t.Helper()
	as, err := serverAccount(data)
	if err != nil {
		t.Fatal(err)
	}
	return as
}

// startParent runs this test binary as the parent of a Postgres.
func startParent(t *testing.T, dir string) (parent *exec.Cmd, postgres, guard int, run string) {
	t.Helper()
	parent = exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { parent.Process.Kill(); parent.Wait() })
	if _, err := fmt.Fscan(out, &postgres, &guard, &run); err != nil {
		t.Fatal(err)
	}
	return parent, postgres, guard, run
}

func TestParentKilled_PostgresEnds(t *testing.T) {
	t.Parallel()
	parent, postgres, _, run := startParent(t, "temporary")
	time.Sleep(100 * time.Millisecond)
	if !alive(postgres) {
		t.Fatal("Postgres does not outlive the start")
	}
	parent.Process.Kill()
	within(t, 5*time.Second, "Postgres ends", func() bool { return !alive(postgres) })
	within(t, 5*time.Second, "the temporary folder goes", func() bool {
		_, err := os.Stat(run)
		return os.IsNotExist(err)
	})
}

func TestParentKilled_WithoutGuard(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("the parent death signal is Linux's")
	}
	parent, postgres, guard, run := startParent(t, "temporary")
	defer os.RemoveAll(run)
	syscall.Kill(guard, syscall.SIGKILL)
	parent.Process.Kill()
	within(t, 5*time.Second, "Postgres ends", func() bool { return !alive(postgres) })
}

func TestParentKilled_DirStartsAtOnce(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	parent, _, _, _ := startParent(t, dir)
	parent.Process.Kill()
	mustStart(t, Options{Dir: dir})
}

// Windows listens on TCP; so does a system whose temporary folder is too deep for a socket.
func TestStart_TCPAsksForPassword(t *testing.T) {
	t.Parallel()
	o := Options{Logf: t.Logf}
	as := mustAccount(t, "")
	b, err := findBinaries(t.Context(), o, as, 0)
	if err != nil {
		t.Fatal(err)
	}
	quiet := o
	quiet.Logf = func(string, ...any) {}
	s, err := start(t.Context(), quiet, as, b, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if got := query(t, s, "SELECT host(inet_server_addr())"); got != "127.0.0.1" {
		t.Errorf("connected to %s", got)
	}
	config, err := pgx.ParseConfig(s.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	config.Password = "wrong"
	if conn, err := pgx.ConnectConfig(t.Context(), config); err == nil {
		conn.Close(t.Context())
		t.Error("a wrong password is accepted")
	}
}

func TestStart_RefusesDirThatRootsAccountCannotReach(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root runs Postgres as somebody else")
	}
	closed := openDir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: filepath.Join(closed, "deep", "er")})
	if err == nil || !strings.Contains(err.Error(), closed+" is drwx------") {
		t.Errorf("got %v, want an error that names the closed folder", err)
	}
	t.Log(err)
}

func TestStart_TellsWhatPostgresSaid(t *testing.T) {
	t.Parallel()
	_, err := Start(t.Context(), Options{Settings: map[string]string{"work_mem": "much"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "work_mem"`) {
		t.Errorf("got %v", err)
	}
}

func TestStart_ClusterOfAMissingVersion(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "PG_VERSION"), []byte("12\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "holds data of PostgreSQL 12") {
		t.Errorf("got %v", err)
	}
}

func TestStart_ForgetsOrphans(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	long := time.Now().Add(-time.Hour)
	folder := func(name string, locked bool) string {
		path := filepath.Join(root, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		lock, err := os.Create(filepath.Join(path, lockFile))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lock.Close() })
		if !locked {
			lock.Close()
		} else if !tryLock(lock) {
			t.Fatal("cannot lock")
		}
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		return path
	}
	orphan, inUse, foreign := folder(runPrefix+"1", false), folder(runPrefix+"2", true), folder("other-1", false)
	forgetOrphans(root)
	for path, want := range map[string]bool{orphan: false, inUse: true, foreign: true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v; want it kept: %t", path, err, want)
		}
	}
}
