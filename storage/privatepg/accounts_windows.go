package privatepg

import (
	"fmt"
	"os"
	"os/exec"
)

// account is always nil on Windows: Postgres runs as ourselves. Postgres itself refuses an administrator, and says so.
type account struct{}

func serverAccount(string) (*account, error) { return nil, nil }

func (*account) become(*exec.Cmd)      {}
func (*account) own(string) error      { return nil }
func (*account) letEnter(string) error { return nil }
func (*account) canEnter(string) error { return nil }

func (*account) makePath(path string) error { return os.MkdirAll(path, 0o755) }

func (*account) makeDir(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil {
		return fmt.Errorf("privatepg: %w", err)
	}
	return nil
}
