package privatepg

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// memoryDir is a file system in memory with room to spare, or "". Cloning a database there takes a tenth of the time.
// Containers often have one of 64 MB, which is too small.
func memoryDir() string {
	const path, enough = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < enough {
		return ""
	}
	return path
}

// dieWithParent is the second line behind the guard, for the case that something kills both of us.
func dieWithParent(cmd *exec.Cmd, end ending) { cmd.SysProcAttr.Pdeathsig = end.signal() }

// worksOn tells whether a process is a postmaster on this cluster. It reads the command line and not the working directory,
// which root in a container may not see of other users.
func worksOn(pid int, data string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false // ended
	}
	args := strings.Split(string(line), "\x00")
	at := slices.Index(args, "-D")
	if filepath.Base(args[0]) != "postgres" || at < 0 || at+1 >= len(args) {
		return false // the number belongs to somebody else now
	}
	mine, err := os.Stat(data)
	if err != nil {
		return true
	}
	its, err := os.Stat(args[at+1])
	return err == nil && os.SameFile(mine, its)
}
