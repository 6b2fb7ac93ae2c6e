package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// write writes what came of a run: the table, and JUnit.
func (r *conformanceRun) write() error {
	var table, junit bytes.Buffer
	writeTable(&table, r)
	if err := writeJUnit(&junit, r); err != nil {
		return err
	}
	if err := write(filepath.Join(r.folder, "results.md"), table.Bytes()); err != nil {
		return err
	}
	return write(filepath.Join(r.folder, "junit.xml"), junit.Bytes())
}

// keepLog writes the suite's log of a module that did not simply pass. It is too big to be kept in memory for all.
func (p *planResult) keepLog(folder string, i int, m *moduleResult) error {
	content := m.log
	m.log = nil
	if m.Result == passed || content == nil {
		return nil
	}
	return write(filepath.Join(folder, p.alias, m.logName(i)), content)
}

// logName names a module's log. A plan may hold one module several times.
func (m *moduleResult) logName(i int) string { return fmt.Sprintf("%03d-%s.json", i+1, m.Name) }

// columns are the results that the table counts; a run that was stopped shows in the modules that are missing.
var columns = []string{passed, review, skipped, warning, failed}

// writeTable writes the results as docs/conformance.md shows them.
func writeTable(w io.Writer, r *conformanceRun) {
	fmt.Fprintf(w, "Suite %s, commit %s, %s.\n", r.version, r.commit, r.begun.UTC().Format("2006-01-02 15:04 UTC"))
	plan, sums, all := "", map[string]int{}, 0
	for _, p := range r.plans {
		if p.plan != plan {
			plan = p.plan
			fmt.Fprintf(w, "\n### %s\n\n| variants | modules | passed | review | skipped | warning | failed |\n|---|--:|--:|--:|--:|--:|--:|\n", plan)
		}
		n := p.count()
		fmt.Fprintf(w, "| %s | %d |", p.variantText(), len(p.modules))
		writeCounts(w, n)
		for result, k := range n {
			sums[result] += k
		}
		all += len(p.modules)
	}
	fmt.Fprintf(w, "\n### All %d plans\n\n| modules | passed | review | skipped | warning | failed |\n|--:|--:|--:|--:|--:|--:|\n| %d |", len(r.plans), all)
	writeCounts(w, sums)
	writeRemarks(w, r.plans)
}

func writeCounts(w io.Writer, n map[string]int) {
	for _, column := range columns {
		fmt.Fprintf(w, " %d |", n[column])
	}
	fmt.Fprintln(w)
}

// writeRemarks lists the modules that did not simply pass, with the plans in which they did not.
func writeRemarks(w io.Writer, plans []*planResult) {
	where := map[string][]string{} // aliases, by remark
	for _, p := range plans {
		if p.err != nil {
			remark := "not run: " + p.err.Error()
			where[remark] = append(where[remark], p.alias)
		} else if left := len(p.modules) - len(p.results); left > 0 {
			where["stopped before the end"] = append(where["stopped before the end"], p.alias)
		}
		for _, m := range p.results {
			if m.Result == passed {
				continue
			}
			remark := m.Result + " `" + m.label() + "`"
			if why := m.why(); why != "" {
				remark += ": " + why
			} else if m.Result == skipped {
				remark += ": " + expectedSkips[m.Name]
			}
			where[remark] = append(where[remark], p.alias)
		}
	}
	fmt.Fprintln(w)
	for _, remark := range slices.Sorted(maps.Keys(where)) {
		in := strings.Join(where[remark], ", ")
		if n := len(where[remark]); n > 4 {
			in = fmt.Sprintf("%d plans", n)
		}
		fmt.Fprintf(w, "- %s (%s)\n", oneLine(remark), in)
	}
}
