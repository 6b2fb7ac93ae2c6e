package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// results lists a module's possible results in the order of tables.
var resultOrder = []string{passed, review, skipped, warning, failed, notEnded}

// progress prints a line for each module that has ended.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	total int
	done  int
	bad   int
	begun time.Time
}

func newProgress(w io.Writer, total int) *progress {
	return &progress{w: w, total: total, begun: time.Now()}
}

func (o *progress) module(p *planResult, m *moduleResult) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done++
	mark := " "
	if !m.good() {
		o.bad++
		mark = "!"
	}
	fmt.Fprintf(o.w, "%s %4d/%d %-8s %s %s (%.1f s)%s", mark, o.done, o.total, m.Result, p.alias, m.label(), m.Seconds, o.left())
	if why := m.why(); why != "" {
		fmt.Fprintf(o.w, "\n            %s", short(why, 500))
	}
	fmt.Fprintln(o.w)
}

// left estimates from what was done how long the rest takes.
func (o *progress) left() string {
	rest := o.total - o.done
	if rest == 0 {
		return ""
	}
	each := time.Since(o.begun) / time.Duration(o.done)
	text := fmt.Sprintf(", %v left", (each * time.Duration(rest)).Round(time.Second))
	if o.bad > 0 {
		text += fmt.Sprintf(", %d bad", o.bad)
	}
	return text
}

func (o *progress) planFailed(p *planResult) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fmt.Fprintf(o.w, "! %s could not be run: %v\n", p.alias, p.err)
}

// label is the module's name with those variants that only it has: a plan may run one module several times.
func (m moduleSpec) label() string {
	if t := m.Variant["response_type"]; t != "" {
		return m.Name + " [" + t + "]"
	}
	return m.Name
}

func countsText(n map[string]int) string {
	var parts []string
	for _, result := range resultOrder {
		if n[result] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n[result], result))
		}
	}
	if len(parts) == 0 {
		return "nothing was run"
	}
	return strings.Join(parts, ", ")
}

// commit names the commit of the source tree, with a mark if it was changed since.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
