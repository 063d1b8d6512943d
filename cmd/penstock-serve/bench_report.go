package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/serve/api"
	"github.com/penstock-ml/penstock/serve/measure"
)

// Shape of the overload.
const (
	overloadTimes  = 2
	overloadRounds = 5
)

// overload offers pictures at twice what closed loops sustain, each right before
// the open one, with as many callers as were answered fastest.
func (s *session) overload(ctx context.Context) error {
	if s.options.goodput == 0 || !s.options.asks(routeJPEG) {
		return nil
	}
	callers, err := s.fastest()
	if err != nil {
		return err
	}
	to, header, body, err := s.work.request("http://"+s.servers[0].public, routeJPEG)
	if err != nil {
		return err
	}
	sustained, err := measure.NewRequest(to, header, body, requestTerm)
	if err != nil {
		return err
	}
	header = header.Clone()
	header.Set(api.TimeoutHeader, strconv.FormatInt(s.options.deadline.Milliseconds(), 10))
	offered, err := measure.NewRequest(to, header, body, requestTerm)
	if err != nil {
		return err
	}
	o := measure.Overload{
		Callers: callers, Times: overloadTimes, Rounds: overloadRounds, Length: s.options.goodput / overloadRounds,
		Deadline: s.options.deadline, Seed: s.options.seed,
	}
	s.env.Logf("overload: %d rounds of %s, in each pictures from %d callers and then twice as many a second", o.Rounds, 2*o.Length, callers)
	g, err := measure.RunOverload(ctx, sustained, offered, o)
	if err != nil {
		return err
	}
	s.goodput = &g
	return nil
}

// fastest is the number of callers with the greatest throughput of pictures.
func (s *session) fastest() (callers int, err error) {
	most := 0.0
	for _, run := range s.runs {
		for i, a := range s.arms {
			if a.server != ownName || a.route != routeJPEG {
				continue
			}
			summary, err := measure.Summarise(run.series[i])
			if err != nil {
				return 0, err
			}
			if summary.PerSecond > most {
				callers, most = run.callers, summary.PerSecond
			}
		}
	}
	return callers, nil
}

// report turns what was measured into checks: name is arm/callers/figure.
func (s *session) report() error {
	for _, a := range s.arms[1:] {
		s.figure(a.name+"/difference", "", measure.Estimate{Value: a.difference}, 1)
	}
	for _, run := range s.runs {
		for i, a := range s.arms {
			if err := s.reportArm(run, i, a); err != nil {
				return err
			}
		}
		if err := s.reportPeers(run); err != nil {
			return err
		}
	}
	if g := s.goodput; g != nil {
		at := "overload/"
		s.figure(at+"sustained", "/s", measure.Estimate{Value: g.Sustained}, overloadRounds)
		s.figure(at+"offered", "/s", measure.Estimate{Value: overloadTimes * g.Sustained}, g.Offered)
		s.figure(at+"goodput_share", "of what closed loops sustain", g.Share, g.Offered)
		s.figure(at+"accepted_p50", "ms", measure.Estimate{Value: g.P50}, g.Good+g.Late)
		s.figure(at+"accepted_p99", "ms", measure.Estimate{Value: g.P99}, g.Good+g.Late)
		s.figure(at+"refused", "", measure.Estimate{Value: float64(g.Refused)}, g.Offered)
		s.figure(at+"failed", "", measure.Estimate{Value: float64(g.Failed)}, g.Offered)
		s.checks[len(s.checks)-1].Text = g.Failure
		s.figure(at+"generator_lag_p99", "ms", measure.Estimate{Value: g.Lag}, g.Offered)
	}
	return nil
}

func (s *session) reportArm(run benchRun, i int, a arm) error {
	summary, err := measure.Summarise(run.series[i])
	if err != nil {
		return err
	}
	at := fmt.Sprintf("%s/%d/", a.name, run.callers)
	p99 := measure.Estimate{Value: summary.P99, Low: summary.P99Interval.Low, High: summary.P99Interval.High}
	s.figure(at+"p50", "ms", measure.Estimate{Value: summary.P50}, summary.Calls)
	s.figure(at+"p99", "ms", p99, summary.Calls)
	s.figure(at+"throughput", "/s", measure.Estimate{Value: summary.PerSecond}, summary.Calls)
	s.figure(at+"client_cpu", "ms a call", measure.Estimate{Value: summary.CPU}, summary.Calls)
	s.figure(at+"cost", "a million requests", measure.Estimate{Value: s.options.price / 3600 / summary.PerSecond * 1e6}, summary.Calls)
	if i == 0 {
		return nil
	}
	c, err := measure.Compare(run.series[i], run.series[0], s.options.seed)
	if err != nil {
		return err
	}
	s.figure(at+"added_p50", "ms", c.AddedP50, summary.Calls)
	s.figure(at+"added_p99", "ms", c.AddedP99, summary.Calls)
	s.figure(at+"throughput_ratio", "of bare", c.Throughput, summary.Calls)
	return nil
}

// reportPeers compares this program's servers with the peers, route by route.
func (s *session) reportPeers(run benchRun) error {
	for i, own := range s.arms {
		for j, peer := range s.arms {
			if !own.own || peer.own || peer.server == bareName || own.route != peer.route {
				continue
			}
			c, err := measure.Compare(run.series[i], run.series[j], s.options.seed)
			if err != nil {
				return err
			}
			at := fmt.Sprintf("%s/%d/over/%s/", own.name, run.callers, peer.server)
			n := len(run.series[i].Rounds)
			s.figure(at+"throughput_ratio", "of the peer", c.Throughput, n)
			s.figure(at+"p50_ratio", "of the peer", c.RatioP50, n)
			s.figure(at+"p99_ratio", "of the peer", c.RatioP99, n)
		}
	}
	return nil
}

func (s *session) figure(name, unit string, e measure.Estimate, n int) {
	c := verdict.Check{Name: name, Verdict: verdict.Pass, Observed: verdict.Number(e.Value), Unit: unit, N: n}
	if e.Low != 0 || e.High != 0 {
		c.Interval = &verdict.Interval{Low: verdict.Number(e.Low), High: verdict.Number(e.High), Level: measure.Level, Method: "bootstrap of rounds"}
	}
	s.checks = append(s.checks, c)
}

// table is for people.
func (s *session) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(out, "%s; %s; ± are %.0f%% intervals over rounds\n", s.work.manifest.Name, s.work.described, 100*measure.Level)
	fmt.Fprintln(w, "callers\twhat\tn\tp50 ms\tp99 ms\tadded p50 ms\tadded p99 ms\t/s\tof bare\tclient CPU ms\tcost/million\t")
	for _, run := range s.runs {
		for i, a := range s.arms {
			summary, err := measure.Summarise(run.series[i])
			if err != nil {
				return err
			}
			added50, added99, share := "-", "-", "-"
			if i > 0 {
				c, err := measure.Compare(run.series[i], run.series[0], s.options.seed)
				if err != nil {
					return err
				}
				added50, added99, share = plusMinus(c.AddedP50), plusMinus(c.AddedP99), plusMinus(c.Throughput)
			}
			fmt.Fprintf(w, "%d\t%s\t%d\t%.2f\t%.2f\t%s\t%s\t%.1f\t%s\t%.2f\t%.3f\t\n", run.callers, a.name, summary.Calls, summary.P50, summary.P99,
				added50, added99, summary.PerSecond, share, summary.CPU, s.options.price/3600/summary.PerSecond*1e6)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if g := s.goodput; g != nil {
		fmt.Fprintf(out, "offered %.0f pictures/s with a deadline of %s: %.0f good/s, %.0f%% (%.0f to %.0f) of the %.0f that closed loops sustain; %d refused, %d late, %d failed; accepted p50 %.0f ms, p99 %.0f ms%s\n",
			overloadTimes*g.Sustained, s.options.deadline, g.Share.Value*g.Sustained, 100*g.Share.Value, 100*g.Share.Low, 100*g.Share.High, g.Sustained,
			g.Refused, g.Late, g.Failed, g.P50, g.P99, because(g.Failure))
	}
	return nil
}

// plusMinus writes an estimate with half the width of its interval.
func plusMinus(e measure.Estimate) string {
	return fmt.Sprintf("%.2f ±%.2f", e.Value, (e.High-e.Low)/2)
}

// because is a failure as the end of a sentence.
func because(failure string) string {
	if failure == "" {
		return ""
	}
	return "; the last that failed: " + failure
}
