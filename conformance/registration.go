package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/countersign/countersign/fapi"
)

// Clients that register themselves fall under the profile of the server's settings. Where a plan wants another one, they show
// an initial access token for it, which the server's operator gives out (docs/registration.md).

func (s *setup) tokenFile(profile fapi.ProfileName) string {
	return s.file("registration", string(profile)+".token")
}

// registrationToken is what was given out by the server that was started last; "" when none was, and for no profile.
func (s *setup) registrationToken(profile fapi.ProfileName) (string, error) {
	if profile == "" {
		return "", nil
	}
	content, err := os.ReadFile(s.tokenFile(profile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(content)), err
}

// letRegister gives out the tokens and writes them into the plans that need them.
func (s *setup) letRegister(ctx context.Context, p *prepared, database string) error {
	given := map[fapi.ProfileName]bool{}
	for _, c := range s.combinations() {
		if c.profile == "" {
			continue
		}
		if !given[c.profile] {
			given[c.profile] = true
			token, err := s.countersign(ctx, "", "client", "token", "--database-url", database, "--master-key-file", p.masterKey,
				"--profile", string(c.profile), "--uses", "100000", "--expires", "240h")
			if err != nil {
				return err
			}
			if err := write(s.tokenFile(c.profile), []byte(token)); err != nil {
				return err
			}
		}
		if _, err := s.writePlan(c, p.pages); err != nil {
			return err
		}
	}
	return nil
}
