package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// prepared is what was written to the folder and is needed again to run.
type prepared struct {
	serverCerts []certificate
	bank        testClient
	pages       pages
	masterKey   string
}

// prepare writes everything that the server, the suite and the benchmark read. Keys that are there already are kept.
func (s *setup) prepare() (*prepared, error) {
	if err := s.ownFolder(); err != nil {
		return nil, err
	}
	var err error
	if s.ca, err = openAuthority(s.Dir); err != nil {
		return nil, err
	}
	out := &prepared{pages: pages{authorize: s.issuer() + "/authorize", endSession: s.issuer() + "/end_session", approvals: s.issuer() + "/approvals", username: customerName}}
	if out.pages.password, err = keptSecret(s.file("customer.password")); err != nil {
		return nil, err
	}
	if out.masterKey, err = keptMasterKey(s.Dir); err != nil {
		return nil, err
	}
	for _, alg := range s.TLSKeys {
		c, err := s.ca.server(s.Host, jose.SignatureAlgorithm(alg))
		if err != nil {
			return nil, err
		}
		out.serverCerts = append(out.serverCerts, c)
	}
	if out.bank, err = s.bankClient(); err != nil {
		return nil, err
	}
	clients := []testClient{out.bank}
	var plans strings.Builder
	for _, c := range s.combinations() {
		own, err := s.writePlan(c, out.pages)
		if err != nil {
			return nil, err
		}
		fmt.Fprintln(&plans, c.spec(), s.file(c.alias+".json"))
		clients = append(clients, own...)
	}
	if err := write(s.file("plans.txt"), []byte(plans.String())); err != nil {
		return nil, err
	}
	benchmark, err := s.writeBenchmarks(out.pages)
	if err != nil {
		return nil, err
	}
	return out, writeClients(s.Dir, append(clients, benchmark...))
}

// writePlan writes the suite's configuration of a combination, and returns the clients in it.
func (s *setup) writePlan(c combination, p pages) ([]testClient, error) {
	own, err := s.testClients(c)
	if err != nil {
		return nil, err
	}
	config, err := s.suiteConfig(c, own, p)
	if err != nil {
		return nil, err
	}
	return own, writeJSON(s.file(c.alias+".json"), config)
}

// ownFolder makes the folder, or makes sure that it is ours alone: it holds keys, and the program that is run.
func (s *setup) ownFolder() error {
	var err error
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	if info, err := os.Lstat(s.Dir); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", s.Dir) // nor a link to one, which somebody else may have put there
	}
	return os.Chmod(s.Dir, 0o700) // fails in somebody else's folder
}

func (s *setup) file(path ...string) string {
	return filepath.Join(append([]string{s.Dir}, path...)...)
}

// remember writes a process's id where the benchmark looks for it.
func (s *setup) remember(name string, pid int) error {
	return write(s.file(name+".pid"), fmt.Appendln(nil, pid))
}
