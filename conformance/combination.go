package main

import (
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/countersign/countersign/fapi"
)

// combination is one plan with the values of its variants, and what running it takes.
type combination struct {
	plan     string
	variants []variant // in the order in which the suite names them
	alias    string    // names it in redirect URIs: plans with different aliases may run at the same time

	clients   []clientSpec                   // that we register; none where the suite registers its own
	dynamic   bool                           // the suite registers its own clients
	profile   fapi.ProfileName               // that these fall under; "": what the server's settings say
	scope     string                         // that these ask for; "": what the suite likes
	browser   bool                           // a customer takes part
	phone     bool                           // one who is asked on a device of their own, by CIBA
	resource  bool                           // the sample API is called
	details   bool                           // authorization_details are asked for (RFC 9396)
	pictures  map[string]picture             // modules that want a page looked at
	overrides func(pages) map[string][]visit // modules in which the customer does something else; may be nil
}

// variant is one of the suite's variants of a plan.
type variant struct{ name, value string }

// clientSpec is a client of a combination.
type clientSpec struct {
	entry       string                             // its name in the suite's configuration
	suffix      string                             // what the suite adds to the redirect URI of this client
	signing     jose.SignatureAlgorithm            // of its key; "" when it has none
	signs       bool                               // requests: the key is registered even if it is not what it authenticates with
	certificate bool                               // it shows a certificate
	metadata    *fapi.Client                       // without what only a folder knows: id, keys, addresses
	addresses   func(base string, to *fapi.Client) // adds metadata that lies at the suite's address of the alias; may be nil
}

// secondSuffix is what the suite adds to the redirect URI of its second FAPI client.
const secondSuffix = "?dummy1=lorem&dummy2=ipsum"

// combinations lists all plans that are run, their aliases beginning with the word of this setup.
func (s *setup) combinations() []combination {
	all := slices.Concat(securityProfilePlans(), messageSigningPlans(), advancedPlans(), cibaPlans(), openIDPlans())
	for i := range all {
		all[i].alias = s.Prefix + "-" + all[i].alias
	}
	return all
}

// values returns a variant's value, or "".
func (c *combination) value(name string) string {
	for _, v := range c.variants {
		if v.name == name {
			return v.value
		}
	}
	return ""
}

// spec is the plan as the suite's own runner wants it named.
func (c *combination) spec() string {
	var b strings.Builder
	b.WriteString(c.plan)
	for _, v := range c.variants {
		b.WriteString("[" + v.name + "=" + v.value + "]")
	}
	return b.String()
}

// variantText is for tables.
func (c *combination) variantText() string {
	if len(c.variants) == 0 {
		return "none"
	}
	values := make([]string, len(c.variants))
	for i, v := range c.variants {
		values[i] = v.value
	}
	return strings.Join(values, ", ")
}

func (c *combination) variantMap() map[string]string {
	m := map[string]string{}
	for _, v := range c.variants {
		m[v.name] = v.value
	}
	return m
}

// aliasOf joins the words that are not empty.
func aliasOf(words ...string) string {
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), "-")
}
