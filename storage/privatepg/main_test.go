//go:build !windows

package privatepg

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// asParent makes this test binary the parent of a Postgres, to be killed by a test. Its value is the Dir, or "temporary".
const asParent = "COUNTERSIGN_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asParent); dir != "" {
		if dir == "temporary" {
			dir = ""
		}
		s, err := Start(context.Background(), Options{Dir: dir})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		guardPID := 0
		if s.guard != nil {
			guardPID = s.guard.cmd.Process.Pid
		}
		fmt.Println(s.PID(), guardPID, s.run.path)
		select {}
	}
	os.Exit(m.Run())
}
