//go:build !windows

package privatepg

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

func (e ending) signal() syscall.Signal {
	switch e {
	case endFast:
		return syscall.SIGINT
	case endNow:
		return syscall.SIGQUIT
	}
	return syscall.SIGKILL
}

func (p *process) signal(how ending, _ binaries, _ string) error {
	return p.cmd.Process.Signal(how.signal())
}

// guard is a shell that waits for the end of a pipe which only we hold. It comes when we die, however we die: the guard
// then ends Postgres and removes the temporary folder.
type guard struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

const guardScript = `
read -r dismissed && exit
kill -"$1" "$2" 2>/dev/null
tries=0
while kill -0 "$2" 2>/dev/null && [ -e "$4/postmaster.pid" ]; do
	tries=$((tries + 1))
	[ $tries -gt 100 ] && kill -KILL "$2" && break
	sleep 0.1 || sleep 1
done
rm -rf -- "$3"
`

// startGuard starts the guard of a process. In a container whose first process does not care for orphans, a dead Postgres
// keeps its number; hence the look at postmaster.pid, which it removes last.
func startGuard(pid int, end ending, run, data string) (*guard, error) {
	g := &guard{cmd: exec.Command("/bin/sh", "-c", guardScript, "countersign-postgres-guard",
		strconv.Itoa(int(end.signal())), strconv.Itoa(pid), run, data)}
	g.cmd.Dir = "/"
	(*account)(nil).become(g.cmd) // as ourselves, but not in our process group: whoever kills that must not hit the guard
	pipe, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("privatepg: %w", err)
	}
	g.pipe = pipe
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("privatepg: cannot start a shell to watch over Postgres: %w", err)
	}
	return g, nil
}

func (g *guard) dismiss() {
	io.WriteString(g.pipe, "dismissed\n") // fails only when the guard is gone already
	g.pipe.Close()
	g.cmd.Wait()
}

// tryLock locks a file until it is closed, which the end of the process does too.
func tryLock(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}
