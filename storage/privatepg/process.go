package privatepg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// ending is how Postgres is asked to end; each Unix signal has its meaning for the postmaster.
type ending int

const (
	endFast ending = iota // disconnect everybody, write what is in memory
	endNow                // the same without writing
	endKill               // by the kernel
)

// process is the postmaster.
type process struct {
	cmd   *exec.Cmd
	pid   int
	log   *tail
	ended chan struct{}
	err   error // of Wait, once ended is closed
}

// launch starts the postmaster and keeps one OS thread for it until it ends: Linux sends the parent death signal when the
// thread that forked ends, not the process (prctl(2), PR_SET_PDEATHSIG).
func launch(as *account, path string, args []string, end ending, logf func(string, ...any)) (*process, error) {
	cmd := command(context.Background(), as, path, args...)
	dieWithParent(cmd, end)
	// Backends may hold the pipe a moment longer than the postmaster lives.
	cmd.WaitDelay = 5 * time.Second
	lines, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	p := &process{cmd: cmd, log: &tail{}, ended: make(chan struct{})}
	go p.log.read(lines, logf)

	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer w.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("privatepg: %w", err)
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// end asks ever less politely until the process is gone.
func (p *process) end(b binaries, data string) error {
	select {
	case <-p.ended:
		return fmt.Errorf("privatepg: Postgres had ended by itself: %w", p.why())
	default:
	}
	var failed error
	for _, step := range []struct {
		how      ending
		patience time.Duration
	}{{endFast, 30 * time.Second}, {endNow, 5 * time.Second}, {endKill, 5 * time.Second}} {
		if err := p.signal(step.how, b, data); err != nil {
			failed = err
		}
		select {
		case <-p.ended:
			return nil
		case <-time.After(step.patience):
		}
	}
	return fmt.Errorf("privatepg: process %d does not end: %w", p.pid, errors.Join(failed, p.log.error()))
}

// why tells the reason of an unexpected end.
func (p *process) why() error { return errors.Join(p.err, p.log.error()) }

// tail keeps the last lines of the server's log, for errors.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) read(from *io.PipeReader, logf func(string, ...any)) {
	scanner := bufio.NewScanner(from)
	for scanner.Scan() {
		t.mu.Lock()
		if t.lines = append(t.lines, scanner.Text()); len(t.lines) > 20 {
			t.lines = t.lines[1:]
		}
		t.mu.Unlock()
		logf("postgres: %s", scanner.Text())
	}
	io.Copy(io.Discard, from) // after a line that was too long, Postgres must not block
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

func (t *tail) error() error {
	if last := t.last(); last != "" {
		return errors.New(last)
	}
	return nil
}

// freePort finds a port by taking and leaving it. Another process could take it in between; Postgres then says so.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
