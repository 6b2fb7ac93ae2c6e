package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// planResult is what came of one plan.
type planResult struct {
	combination
	err     error // the plan could not be run at all
	id      string
	modules []moduleSpec
	results []*moduleResult // of those that were run, in order
	seconds float64
}

// conformanceRun is one run of the plans that are wanted.
type conformanceRun struct {
	suite    *suiteAPI
	plans    []*planResult
	hooks    map[string]hook
	patience time.Duration // with a module that waits for a person
	folder   string        // for results and logs
	begun    time.Time
	version  string // the suite's
	commit   string // ours
	out      *progress
}

const suiteReadyAfter = 2 * time.Minute

// runPlans runs the plans as often as is wanted. It fails if a result is not what it must be, or differs from run to run.
func (s *setup) runPlans(ctx context.Context) error {
	wanted := s.wanted()
	if len(wanted) == 0 {
		return fmt.Errorf("no plan's name or alias matches %v", s.Plans)
	}
	suite, err := openSuite(s.Suite, s.SuiteCA)
	if err != nil {
		return err
	}
	version, err := suite.ready(ctx, suiteReadyAfter)
	if err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	var first *conformanceRun
	var wrong []error
	for n := range max(1, s.Repeat) {
		r := &conformanceRun{
			suite: suite, hooks: s.hooks(), patience: s.patience, folder: s.file("results", strconv.Itoa(n+1)),
			version: version, commit: commit(ctx),
		}
		for _, c := range wanted {
			r.plans = append(r.plans, &planResult{combination: c})
		}
		if err := r.run(ctx, s); err != nil {
			wrong = append(wrong, err)
		}
		if ctx.Err() != nil {
			break
		}
		if first == nil {
			first = r
		} else if err := compareRuns(first, r); err != nil {
			wrong = append(wrong, fmt.Errorf("run %d: %w", n+1, err))
		} else {
			fmt.Printf("run %d had the same results as the first\n", n+1)
		}
	}
	return errors.Join(wrong...)
}

// wanted returns the combinations that were asked for by the plan's name or by the alias.
func (s *setup) wanted() []combination {
	var wanted []combination
	for _, c := range s.combinations() {
		if matches(s.Plans, c.alias) || matches(s.Plans, c.plan) {
			wanted = append(wanted, c)
		}
	}
	return wanted
}

// matches tells whether one of the patterns is for a name. Without patterns all names do.
func matches(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(glob string) bool {
		ok, err := path.Match(glob, name)
		return ok && err == nil
	})
}

// settle waits until proofs of possession may be as old as the suite makes some of them, ten seconds. Server and sample API
// refuse those from before their memory of used ones began, and it has just begun.
func (s *setup) settle(ctx context.Context) error {
	if s.ServerRunning {
		return nil
	}
	return pause(ctx, 15*time.Second)
}

// run runs the plans, some at a time, and writes what came of them, also when it is stopped.
func (r *conformanceRun) run(ctx context.Context, s *setup) error {
	r.begun = time.Now()
	if err := os.RemoveAll(r.folder); err != nil { // old results must not pass for new ones
		return err
	}
	total := 0
	for _, p := range r.plans {
		p.create(ctx, r.suite, s)
		total += len(p.modules)
	}
	r.out = newProgress(os.Stdout, total)
	r.runAll(ctx, s.Jobs)
	bad := r.bad()
	fmt.Printf("%d modules in %v: %s\n", r.out.done, time.Since(r.begun).Round(time.Second), countsText(r.counts()))
	if err := r.write(); err != nil {
		return err
	}
	fmt.Println("results are in", r.folder)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if bad > 0 {
		return fmt.Errorf("%d modules or plans are not as they must be", bad)
	}
	return nil
}

// create makes the plan in the suite. An error stays in the result.
func (p *planResult) create(ctx context.Context, suite *suiteAPI, s *setup) {
	config, err := os.ReadFile(s.file(p.alias + ".json"))
	if err != nil {
		p.err = err
		return
	}
	var modules []moduleSpec
	if p.id, modules, p.err = suite.createPlan(ctx, p.plan, p.variantMap(), config); p.err != nil {
		return
	}
	for _, m := range modules {
		if matches(s.Modules, m.Name) {
			p.modules = append(p.modules, m)
		}
	}
}

// runAll runs the plans, jobs at a time, those with the most modules first: the last one to end should be a short one.
func (r *conformanceRun) runAll(ctx context.Context, jobs int) {
	queue := slices.Clone(r.plans)
	slices.SortStableFunc(queue, func(a, b *planResult) int { return len(b.modules) - len(a.modules) })
	next := make(chan *planResult)
	var workers sync.WaitGroup
	for range max(1, jobs) {
		workers.Go(func() {
			for p := range next {
				p.run(ctx, r)
			}
		})
	}
	for _, p := range queue {
		next <- p
	}
	close(next)
	workers.Wait()
}

func (p *planResult) run(ctx context.Context, r *conformanceRun) {
	if p.err != nil {
		r.out.planFailed(p)
		return
	}
	begun := time.Now()
	modules := &moduleRun{suite: r.suite, plan: p.id, hooks: r.hooks, patience: r.patience, pictures: p.pictures}
	for _, m := range p.modules {
		if ctx.Err() != nil {
			break
		}
		result := modules.run(ctx, m)
		if err := p.keepLog(r.folder, len(p.results), result); err != nil {
			result.Note = joinNotes(result.Note, err.Error())
		}
		p.results = append(p.results, result)
		r.out.module(p, result)
	}
	p.seconds = time.Since(begun).Seconds()
}

// count counts the modules by result.
func (p *planResult) count() map[string]int {
	n := map[string]int{}
	for _, m := range p.results {
		n[m.Result]++
	}
	if left := len(p.modules) - len(p.results); left > 0 {
		n[notEnded] += left
	}
	return n
}

// bad counts what is not as it must be.
func (p *planResult) bad() int {
	bad := len(p.modules) - len(p.results)
	if p.err != nil {
		bad++
	}
	for _, m := range p.results {
		if !m.good() {
			bad++
		}
	}
	return bad
}

func (r *conformanceRun) counts() map[string]int {
	sum := map[string]int{}
	for _, p := range r.plans {
		for result, n := range p.count() {
			sum[result] += n
		}
	}
	return sum
}

func (r *conformanceRun) bad() int {
	bad := 0
	for _, p := range r.plans {
		bad += p.bad()
	}
	return bad
}

// compareRuns returns where two runs of the same plans differ.
func compareRuns(a, b *conformanceRun) error {
	var differ []string
	for i, p := range a.plans {
		one, other := p.outcome(), b.plans[i].outcome()
		for j := range max(len(one), len(other)) {
			x, y := at(one, j), at(other, j)
			if x != y {
				differ = append(differ, fmt.Sprintf("%s: %s, then %s", p.alias, x, y))
			}
		}
	}
	if len(differ) > 0 {
		return fmt.Errorf("%d modules had another result:\n%s", len(differ), strings.Join(differ, "\n"))
	}
	return nil
}

func (p *planResult) outcome() []string {
	lines := make([]string, len(p.results))
	for i, m := range p.results {
		lines[i] = m.Name + " " + m.Result
	}
	return lines
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}
