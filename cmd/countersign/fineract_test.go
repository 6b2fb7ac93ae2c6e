package main

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/countersign/countersign/authn/fineract"
)

func TestFineractSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args  string
		want  fineract.Config
		fails bool
	}{
		{args: "", want: fineract.Config{}},
		{args: "--fineract-context /x --fineract-origin https://a.example", want: fineract.Config{}}, // there is none without --fineract-api
		{args: "--fineract-api", want: fineract.Config{Context: fineract.DefaultContext}},
		{args: "--fineract-api --no-fineract-mask-target --fineract-context /api/v1", want: fineract.Config{Context: "/api/v1", FullTargets: true}},
		{args: "--fineract-api --fineract-origin https://a.example --fineract-origin https://b.example", want: fineract.Config{Context: fineract.DefaultContext, Origins: []string{"https://a.example", "https://b.example"}}},
		{args: "--fineract-api --fineract-context api", want: fineract.Config{Context: "api"}, fails: true},
		{args: "--fineract-api --fineract-origin *", want: fineract.Config{Context: fineract.DefaultContext, Origins: []string{"*"}}, fails: true},
	} {
		var s serverSettings
		parser, err := kong.New(&s.fineractSettings)
		if err == nil {
			_, err = parser.Parse(strings.Fields(c.args))
		}
		if err != nil {
			t.Fatal(err)
		}
		s.BankName, c.want.Institution = "Meadow Bank", ""
		got := s.fineract()
		if got.Context != "" && got.Institution != "Meadow Bank" {
			t.Errorf("%s: institution %q", c.args, got.Institution)
		}
		got.Institution = ""
		if got.Context != c.want.Context || got.FullTargets != c.want.FullTargets || strings.Join(got.Origins, " ") != strings.Join(c.want.Origins, " ") {
			t.Errorf("%s: %+v", c.args, got)
		}
		if err := got.Check(); (err != nil) != c.fails {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}
