package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/authn"
)

// selfSettings are what can be set about customers' own pages (docs/self.md).
type selfSettings struct {
	Policy       string        `name:"step-up-policy" help:"YAML file that says which action of a customer needs which login, how fresh (docs/self.md); by default the built-in policy." env:"COUNTERSIGN_STEP_UP_POLICY" placeholder:"FILE"`
	DeletionWait time.Duration `name:"deletion-wait" help:"How long customers can think better of it who have asked to be deleted." env:"COUNTERSIGN_DELETION_WAIT" default:"336h" placeholder:"DURATION"`
	RecordsKept  time.Duration `name:"records-kept" help:"How long records of consents and payments outlive a customer, without a name." env:"COUNTERSIGN_RECORDS_KEPT" default:"43800h" placeholder:"DURATION"`
}

// self sets it in the configuration.
func (s *selfSettings) self(c *authn.Config) (err error) {
	if s.DeletionWait <= 0 || s.RecordsKept <= 0 {
		return errors.New("deletion-wait and records-kept must be more than 0")
	}
	c.DeletionWait, c.RecordsKept = s.DeletionWait, s.RecordsKept
	if s.Policy == "" {
		return nil
	}
	f, err := os.Open(s.Policy)
	if err == nil {
		defer f.Close()
		c.Policy, err = readPolicy(f)
	}
	if err != nil {
		return fmt.Errorf("step-up-policy: %w", err)
	}
	return nil
}

// readPolicy reads actions and their rules. What it does not know it refuses: a typing error must not make a rule weaker. An
// action that is not there keeps its default.
func readPolicy(r io.Reader) (authn.Policy, error) {
	var policy authn.Policy
	decoder := yaml.NewDecoder(r)
	decoder.KnownFields(true)
	if err := decoder.Decode(&policy); err != nil {
		return nil, err
	}
	if len(policy) == 0 {
		return nil, errors.New("the file has no rule")
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("the file has more than one document")
	}
	return policy, nil
}
