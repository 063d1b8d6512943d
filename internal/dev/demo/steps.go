package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/penstock-ml/penstock/internal/bundle"
	"github.com/penstock-ml/penstock/internal/line/rollout"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// play runs one step: it notes who is champion before and after, and what the
// live traffic saw meanwhile.
func (d *demo) play(ctx context.Context, name string, run func(ctx context.Context) (outcome, error)) (Step, outcome, error) {
	started := d.now()
	before, err := d.settled(ctx)
	if err != nil {
		return Step{}, outcome{}, err
	}
	var earlier Requests
	if d.live != nil {
		if earlier, err = d.live.now(ctx); err != nil {
			return Step{}, outcome{}, err
		}
	}
	o, err := run(ctx)
	if err != nil {
		return Step{}, o, err
	}
	after, err := d.settled(ctx)
	if err != nil {
		return Step{}, o, err
	}
	s := stepOf(name, o)
	s.Production = Change{before.model, after.model}
	if s.Made, err = d.made(ctx, o); err != nil {
		return Step{}, o, err
	}
	if d.live != nil {
		now, err := d.live.now(ctx)
		if err != nil {
			return Step{}, o, err
		}
		during := now.minus(earlier)
		s.Requests = &during
	}
	s.Seconds = d.now().Sub(started).Seconds()
	d.champion = after
	if d.report.Production.Before == "" {
		d.report.Production.Before = after.model
	}
	d.report.Production.After = after.model
	d.note(s)
	return s, o, nil
}

// made looks up what the run's training left in the bucket, if it trained.
func (d *demo) made(ctx context.Context, o outcome) (*Made, error) {
	trained := o.results["train"].Subjects
	if trained["model"] == "" {
		return nil, nil
	}
	sums, _, err := d.bucket.Get(ctx, bundle.Key(trained["model"], bundle.SumsFile))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(sums)) {
		if sum, file, _ := strings.Cut(strings.TrimSpace(line), "  "); file == bundle.ModelFile {
			return &Made{Dataset: trained["dataset"], Model: trained["model"], ONNX: sum}, nil
		}
	}
	return nil, fmt.Errorf("bundle %s lists no %s", trained["model"], bundle.ModelFile)
}

// task has the driver do one.
func (d *demo) task(t task) func(context.Context) (outcome, error) {
	return func(ctx context.Context) (outcome, error) { return d.driver.run(ctx, t) }
}

// firstBatch: the first model ever reaches production.
func (d *demo) firstBatch(ctx context.Context) error {
	s, o, err := d.play(ctx, "first batch", d.task(task{kind: landBatch, batch: 1}))
	if err != nil {
		return err
	}
	if err := expect(o.passed() && o.step == "rollout", "the first batch to reach production, %s said %s", o.step, s.Reason); err != nil {
		return err
	}
	return expect(s.Production.After == o.results["train"].Subjects["model"], "production to serve the new model")
}

// secondBatch: under live traffic, a better model is judged and promoted, and
// no request fails. Real images may end in any verdict of the gate; then
// production must not have changed.
func (d *demo) secondBatch(ctx context.Context) error {
	images, err := d.liveImages(ctx)
	if err != nil {
		return err
	}
	if d.live, err = d.startTraffic("send-live", images); err != nil {
		return err
	}
	s, o, err := d.play(ctx, "second batch", d.task(task{kind: landBatch, batch: 2}))
	if err != nil {
		return err
	}
	d.second = o
	if err := expect(s.Requests.Failed == 0, "no live request to fail, %d of %d did", s.Requests.Failed, s.Requests.Sent); err != nil {
		return err
	}
	if d.Data != "" && o.step == "gate-offline" {
		return expect(s.Production.After == s.Production.Before, "production to stay what it was after %s", s.Reason)
	}
	if err := expect(o.passed() && o.step == "rollout", "the second batch to reach production, %s said %s", o.step, s.Reason); err != nil {
		return err
	}
	promoted := o.results["train"].Subjects["model"]
	if err := expect(s.Production.After == promoted, "production to serve the new model"); err != nil {
		return err
	}
	// By the servers' own counters, while it was the canary.
	answered, err := strconv.Atoi(o.results["rollout"].Outputs["canary_requests"])
	if err != nil {
		return fmt.Errorf("the rollout does not say how many requests the canary answered: %w", err)
	}
	return expect(answered >= canaryWanted, "the canary to answer at least %d requests, it answered %d", canaryWanted, answered)
}

// canaryWanted is how many requests the second model must have answered.
const canaryWanted = 1000

// backAndForward rolls back to the first model and forward again, still
// without a failed request.
func (d *demo) backAndForward(ctx context.Context) error {
	if !d.second.passed() {
		d.note(Step{Name: "rollback and forward", Verdict: string(d.second.result.Verdict), Reason: "the second batch's model was not promoted: there is nothing to go back to", Production: Change{d.champion.model, d.champion.model}})
		return nil
	}
	newer := d.champion.model
	s, _, err := d.play(ctx, "rollback", d.task(task{kind: goBack}))
	if err != nil {
		return err
	}
	older := d.report.Steps[1].Production.After
	if err := expect(s.Verdict == "pass" && s.Production.After == older && s.Requests.Failed == 0,
		"the rollback to bring %s back without a failed request; production is %s, %d failed", older, s.Production.After, s.Requests.Failed); err != nil {
		return err
	}
	s, _, err = d.play(ctx, "forward again", d.task(task{kind: goForward}))
	if err != nil {
		return err
	}
	return expect(s.Verdict == "pass" && s.Production.After == newer && s.Requests.Failed == 0,
		"the way forward to end with %s and without a failed request; production is %s, %d failed", newer, s.Production.After, s.Requests.Failed)
}

// pullRequest: a lower learning rate is asked for, tried on a budget, and told
// in one comment; production and data stay as they are.
func (d *demo) pullRequest(ctx context.Context) error {
	w, ok := d.driver.(*workflows)
	if !ok {
		return fmt.Errorf("a pull request needs the way %s", Workflows)
	}
	var body string
	s, _, err := d.play(ctx, "pull request", func(ctx context.Context) (o outcome, err error) {
		var conclusion string
		body, conclusion, err = w.pullRequest(ctx)
		text, _, _ := strings.Cut(body, "\n")
		o.step, o.result = "comment", verdict.Passed("the check is %s; the comment begins: %s", conclusion, text)
		return o, err
	})
	if err != nil {
		return err
	}
	told := strings.Contains(body, "pass") || strings.Contains(body, "reject") || strings.Contains(body, "inconclusive")
	return errors.Join(
		expect(told && strings.Contains(body, "macro"), "the comment to tell a verdict and the macro AUROC, it says:\n%s", body),
		expect(s.Production.After == s.Production.Before && s.Requests.Failed == 0, "production to stay unchanged and unharmed"),
	)
}

// shuffledLabels: a batch twice the size, its labels dealt out anew, must not
// become a model in production.
func (d *demo) shuffledLabels(ctx context.Context) error {
	s, o, err := d.play(ctx, "shuffled labels", d.task(task{kind: landBatch, batch: 3}))
	if err != nil {
		return err
	}
	if err := expect(o.step == "gate-offline" && !o.passed(), "the offline gate to stop shuffled labels, %s said %s", o.step, s.Reason); err != nil {
		return err
	}
	if d.Data == "" {
		if err := expect(o.result.Verdict == verdict.Reject, "shuffled labels to be rejected, the gate said %s", s.Reason); err != nil {
			return err
		}
	}
	return expect(s.Production.After == s.Production.Before && o.result.Reason.Text != "", "production to stay unchanged, with a reason")
}

// slowModel: the champion with a slow graph is stopped by the load test.
func (d *demo) slowModel(ctx context.Context) error {
	s, o, err := d.play(ctx, "slow model", d.sabotage("slow"))
	if err != nil {
		return err
	}
	if err := expect(o.step == "loadtest" && o.result.Verdict == verdict.Reject, "the load test to reject the slow model, %s said %s %s", o.step, s.Verdict, s.Reason); err != nil {
		return err
	}
	return expect(s.Production.After == s.Production.Before && s.Requests.Failed == 0, "production to stay unchanged and unharmed; %d live requests failed", s.Requests.Failed)
}

// failingModel: the champion with a graph that fails on over-exposed images
// passes staging, which has none, and is caught by the canary. The canary's
// server would refuse it before any user met it, on the requests that it
// remembers; one that has just started remembers none, and the judge must see
// what users get.
func (d *demo) failingModel(ctx context.Context) error {
	if err := d.forget(ctx, "canary"); err != nil {
		return err
	}
	s, o, err := d.play(ctx, "failing model", d.sabotage("failing"))
	if err != nil {
		return err
	}
	if err := expect(o.step == "rollout" && o.result.Verdict == verdict.Reject && o.result.Reason.Code == rollout.CodeErrors,
		"the canary to be rejected for its errors, %s said %s %s", o.step, s.Verdict, s.Reason); err != nil {
		return err
	}
	return expect(s.Production.After == s.Production.Before, "production to be rolled back to %s, it is %s", s.Production.Before, s.Production.After)
}

// sabotage makes a bundle from the champion and drives it from predict on. Its
// run key is the hash of model and data set: there is no batch.
func (d *demo) sabotage(kind string) func(context.Context) (outcome, error) {
	return func(ctx context.Context) (outcome, error) {
		model, err := d.sabotageBundle(ctx, kind)
		if err != nil {
			return outcome{}, err
		}
		hash := sha256.Sum256([]byte(d.champion.dataset + "\n" + model + "\n"))
		key := hex.EncodeToString(hash[:])
		d.say("    %-13s %-12s          %s graph on the champion, bundle %.12s", "bundle", "made", kind, model)
		return d.drive(ctx, key, 1, d.lineOfBundle(key, model, d.champion))
	}
}

// stopTraffic ends the live traffic and keeps its counts.
func (d *demo) stopTraffic() error {
	if d.live == nil {
		return nil
	}
	counts, err := d.live.stop()
	d.report.Requests = d.report.Requests.plus(counts)
	d.live = nil
	if err != nil {
		return fmt.Errorf("live traffic: %w", err)
	}
	return nil
}
