package privatepg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	passwordFile = "countersign_password" // beside Postgres's own files, so that it comes and goes with them
	unfinished   = "new-"                 // folders in which initdb is still at work
)

func clusterIn(dir string) string { return filepath.Join(dir, "data") }

// clusterVersion is the major version that made a cluster, 0 when there is none.
func clusterVersion(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("privatepg: the folder of an earlier run is not ours to read: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("privatepg: %s is not a PostgreSQL version that we know: %w", data, err)
	}
	return version, nil
}

// makeCluster makes the cluster in dir unless there is one, and returns the superuser's password. initdb works beside the
// final place and the result is moved there, so that a cluster which exists is complete, even if two processes begin at once.
func makeCluster(ctx context.Context, dir string, as *account, b binaries, logf func(string, ...any)) (password string, err error) {
	data := clusterIn(dir)
	if err := as.makePath(dir); err != nil { // open; the cluster itself is closed
		return "", fmt.Errorf("privatepg: %w", err)
	}
	if err := as.canEnter(dir); err != nil {
		return "", err
	}
	if version, err := clusterVersion(data); err != nil {
		return "", err
	} else if version == 0 {
		if err := initialise(ctx, dir, as, b, logf); err != nil {
			return "", err
		}
	}
	text, err := os.ReadFile(filepath.Join(data, passwordFile))
	if err != nil {
		return "", fmt.Errorf("privatepg: %s was not made by countersign: %w", data, err)
	}
	return string(text), nil
}

func initialise(ctx context.Context, dir string, as *account, b binaries, logf func(string, ...any)) error {
	forgetUnfinished(dir)
	work, err := os.MkdirTemp(dir, unfinished)
	if err != nil {
		return fmt.Errorf("privatepg: %w", err)
	}
	defer os.RemoveAll(work)
	if err := as.letEnter(work); err != nil {
		return err
	}
	data := clusterIn(work)
	if err := as.makeDir(data); err != nil {
		return err
	}
	password := filepath.Join(work, "password")
	if err := os.WriteFile(password, []byte(rand.Text()), 0o600); err != nil {
		return fmt.Errorf("privatepg: %w", err)
	}
	if err := as.own(password); err != nil {
		return err
	}

	began := time.Now()
	out, err := command(ctx, as, b.initdb, "--pgdata="+data, "--username="+superuser, "--pwfile="+password,
		"--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C",
		"--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return fmt.Errorf("privatepg: %s failed: %w\n%s", b.initdb, err, strings.TrimSpace(string(out)))
	}
	logf("made a new PostgreSQL %d cluster in %s (%s)", b.major, dir, time.Since(began).Round(time.Millisecond))

	if err := os.Rename(password, filepath.Join(data, passwordFile)); err != nil {
		return fmt.Errorf("privatepg: %w", err)
	}
	if err := os.Rename(data, clusterIn(dir)); err != nil {
		if version, _ := clusterVersion(clusterIn(dir)); version != 0 {
			return nil // another process was faster; its cluster is as good
		}
		return fmt.Errorf("privatepg: %w", err)
	}
	return nil
}

// forgetUnfinished removes what a start that was killed left behind. A young folder may be another process at work.
func forgetUnfinished(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, unfinished+"*"))
	for _, path := range left {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 10*time.Minute {
			os.RemoveAll(path)
		}
	}
}

// takeOver makes sure that no server works on the cluster. One whose parent was killed is given time to end. Postgres takes
// a postmaster.pid of a dead process for stale by itself, but not when the number belongs to another process by now, as
// happens in each restarted container; such a file is removed.
func takeOver(ctx context.Context, data string) error {
	path := filepath.Join(data, "postmaster.pid")
	for deadline := time.Now().Add(10 * time.Second); ; {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("privatepg: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil || pid <= 0 {
			return nil // half written, or not a server's: let Postgres judge
		}
		if !worksOn(pid, data) {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("privatepg: %w", err)
			}
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("privatepg: %s is in use by a Postgres that runs already (process %d): stop the countersign that "+
				"started it, or choose another folder", data, pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("privatepg: waiting for process %d to leave %s: %w", pid, data, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
