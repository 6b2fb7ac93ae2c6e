package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// The elements of JUnit's XML that build servers read.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string     `xml:"classname,attr"`
	Name    string     `xml:"name,attr"`
	Time    string     `xml:"time,attr"`
	Failure *junitText `xml:"failure"`
	Skipped *junitText `xml:"skipped"`
	Output  string     `xml:"system-out,omitempty"`
}

type junitText struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes a run as JUnit's XML: a test suite for each plan, a test case for each module.
func writeJUnit(w io.Writer, r *conformanceRun) error {
	all := junitSuites{Name: "OpenID conformance suite " + r.version}
	for _, p := range r.plans {
		s := p.junit(r)
		all.Tests, all.Failures, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Skipped+s.Skipped
		all.Suites = append(all.Suites, s)
	}
	content, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, content)
	return err
}

func (p *planResult) junit(r *conformanceRun) junitSuite {
	s := junitSuite{
		Name: p.spec(), Time: seconds(p.seconds), Timestamp: r.begun.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{{"alias", p.alias}, {"commit", r.commit}},
	}
	if p.err != nil {
		s.Cases = append(s.Cases, junitCase{Class: p.alias, Name: "plan", Failure: &junitText{Message: p.err.Error()}})
	}
	for i, m := range p.results {
		c := junitCase{Class: p.alias, Name: m.label(), Time: seconds(m.Seconds)}
		switch {
		case !m.good():
			c.Failure = &junitText{Message: m.why(), Type: m.Result, Text: unmetText(m)}
		case m.Result == skipped:
			c.Skipped = &junitText{Message: expectedSkips[m.Name]}
		}
		if m.Result != passed {
			c.Output = "result " + m.Result + ", log " + p.alias + "/" + m.logName(i)
		}
		s.Cases = append(s.Cases, c)
	}
	for _, m := range p.modules[len(p.results):] {
		s.Cases = append(s.Cases, junitCase{Class: p.alias, Name: m.label(), Failure: &junitText{Message: "not run", Type: notEnded}})
	}
	s.Tests = len(s.Cases)
	for _, c := range s.Cases {
		if c.Failure != nil {
			s.Failures++
		}
		if c.Skipped != nil {
			s.Skipped++
		}
	}
	return s
}

func unmetText(m *moduleResult) string {
	lines := make([]string, len(m.Unmet))
	for i, e := range m.Unmet {
		lines[i] = e.Result + " " + e.line()
	}
	return strings.Join(lines, "\n")
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }
