package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// result is what runplan.py writes about one plan.
type result struct {
	combination combination
	err         error // the plan could not be run at all

	Seconds float64        `json:"seconds"`
	Totals  map[string]int `json:"totals"`
	Modules []struct {
		Name     string      `json:"module"`
		Result   string      `json:"result"`
		Note     string      `json:"note"`
		Failures []condition `json:"failures"`
		Warnings []condition `json:"warnings"`
	} `json:"modules"`
}

// condition is one check of the suite that was not met.
type condition struct {
	Source  string `json:"src"`
	Message string `json:"msg"`
}

// runPlans runs the plans that are wanted, some at a time, and writes the table of their results.
func (s *setup) runPlans(ctx context.Context) error {
	if s.Runplan == "" {
		return errors.New("--run needs the program that runs a plan: name it with --runplan or RUNPLAN")
	}
	var results []*result
	for _, c := range combinations() {
		if matches(s.Plans, c.alias()) {
			results = append(results, &result{combination: c})
		}
	}
	if len(results) == 0 {
		return fmt.Errorf("no plan's alias matches %v", s.Plans)
	}
	if err := settle(ctx); err != nil {
		return err
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, max(1, s.Jobs))
	for _, r := range results {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if r.err = s.runPlan(ctx, r); r.err != nil {
				fmt.Println(r.combination.alias(), r.err)
			}
		})
	}
	running.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	var table bytes.Buffer
	bad := writeTable(&table, results)
	os.Stdout.Write(table.Bytes())
	if err := write(s.file("results.md"), table.Bytes()); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d modules or plans failed or warned; what they printed is in %s", bad, s.file("results"))
	}
	return nil
}

// settle waits until proofs of possession may be as old as the suite makes some of them, ten seconds. Server and sample API
// refuse those from before their memory of used ones began, and it has just begun.
func settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(15 * time.Second):
		return nil
	}
}

// runPlan runs one plan and reads its result. That modules failed is no error here.
func (s *setup) runPlan(ctx context.Context, r *result) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	alias, folder := r.combination.alias(), s.file("results")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	resultFile := s.file("results", alias+".json")
	if err := os.Remove(resultFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // an old result must not pass for a new one
	}
	args := []string{s.Runplan, "--verbose", "--base", s.Suite, "--out", folder, "--name", alias}
	if s.SuiteCA != "" {
		args = append(args, "--ca", s.SuiteCA)
	}
	for _, glob := range s.Modules {
		args = append(args, "--only", glob)
	}
	log, err := os.Create(s.file("results", alias+".txt"))
	if err != nil {
		return err
	}
	defer log.Close()
	command := exec.CommandContext(ctx, "python3", append(args, r.combination.spec(), s.file(alias+".json"))...)
	command.Stdout, command.Stderr = log, log
	ran := command.Run()
	content, err := os.ReadFile(resultFile)
	if err != nil {
		return errors.Join(ran, err)
	}
	if err := json.Unmarshal(content, r); err != nil {
		return err
	}
	fmt.Printf("%-24s %s\n", alias, r.summary())
	return nil
}

func (r *result) summary() string {
	return fmt.Sprintf("%d modules in %.0f s: %v", len(r.Modules), r.Seconds, r.Totals)
}

func matches(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(glob, name)
		return ok && err == nil
	})
}

// writeTable writes the results as Markdown and returns how many were bad.
func writeTable(w io.Writer, results []*result) int {
	columns := []string{"PASSED", "REVIEW", "SKIPPED", "WARNING", "FAILED"}
	fmt.Fprintln(w, "| sender | client authentication | openid | request | profile | modules | passed | review | skipped | warning | failed |")
	fmt.Fprintln(w, "|---|---|---|---|---|--:|--:|--:|--:|--:|--:|")
	bad, all, sums := 0, 0, map[string]int{}
	for _, r := range results {
		c := r.combination
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %d |", c.sender, c.clientAuth, c.openID, c.request, c.profile, len(r.Modules))
		for _, column := range columns {
			fmt.Fprintf(w, " %d |", r.Totals[column])
			sums[column] += r.Totals[column]
		}
		fmt.Fprintln(w)
		all += len(r.Modules)
		if r.err != nil {
			bad++
		}
	}
	fmt.Fprintf(w, "| **all** | | | | | %d |", all)
	for _, column := range columns {
		fmt.Fprintf(w, " %d |", sums[column])
	}
	fmt.Fprintln(w)
	bad += sums["WARNING"] + sums["FAILED"]
	writeRemarks(w, results)
	return bad
}

// writeRemarks lists the modules that did not simply pass, with the plans in which they did not.
func writeRemarks(w io.Writer, results []*result) {
	remarks := map[string][]string{} // plans, by remark
	for _, r := range results {
		if r.err != nil {
			remark := "FAILED to run: " + r.err.Error()
			remarks[remark] = append(remarks[remark], r.combination.alias())
		}
		for _, m := range r.Modules {
			if m.Result == "PASSED" {
				continue
			}
			remark := m.Result + " `" + m.Name + "`"
			if unmet := append(m.Failures, m.Warnings...); len(unmet) > 0 {
				remark += " — " + unmet[0].Source + ": " + unmet[0].Message
			}
			if m.Note != "" {
				remark += " — " + m.Note
			}
			remarks[remark] = append(remarks[remark], r.combination.alias())
		}
	}
	fmt.Fprintln(w)
	for _, remark := range slices.Sorted(maps.Keys(remarks)) {
		plans := remarks[remark]
		where := strings.Join(plans, ", ")
		if len(plans) > 4 {
			where = fmt.Sprintf("%d plans", len(plans))
		}
		fmt.Fprintf(w, "- %s (%s)\n", strings.Join(strings.Fields(remark), " "), where)
	}
}
