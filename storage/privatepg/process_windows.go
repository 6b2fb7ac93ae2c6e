package privatepg

import (
	"context"
	"os"
	"os/exec"
)

func memoryDir() string { return "" }

// tryLock need not lock: a file that is open cannot be removed on Windows.
func tryLock(*os.File) bool { return true }

func dieWithParent(*exec.Cmd, ending) {}

// signal asks pg_ctl, because Windows has no signals and Postgres listens on a named pipe instead.
func (p *process) signal(how ending, b binaries, data string) error {
	mode := map[ending]string{endFast: "fast", endNow: "immediate"}[how]
	if mode == "" {
		return p.cmd.Process.Kill()
	}
	return command(context.Background(), nil, b.ctl, "stop", "-D", data, "-m", mode, "-W").Run()
}

// guard does not exist on Windows.
type guard struct{}

func startGuard(int, ending, string, string) (*guard, error) { return nil, nil }

func (*guard) dismiss() {}

// worksOn can only tell whether the process exists.
func worksOn(pid int, _ string) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	p.Release()
	return true
}
