package trigger

import "testing"

func contexts() map[string]any {
	return map[string]any{
		"inputs": map[string]any{"batch": "b1", "empty": "", "dry": true},
		"vars":   map[string]any{"REGION": "eu"},
		"github": map[string]any{
			"ref": "refs/heads/main", "run_id": 42.0,
			"event": map[string]any{
				"client_payload": map[string]any{"key": "k9"},
				"commits":        []any{map[string]any{"id": "c0"}},
				"pull_request":   map[string]any{"number": 7.0, "title": "an ${{ inputs.batch }} injection"},
			},
		},
	}
}

func TestExpressionsAreEvaluatedAsGitHubDoes(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                     "plain",
		"train ${{ inputs.batch }}": "train b1",
		"train ${{ inputs.empty || github.event.client_payload.key || github.sha }}":   "train k9",
		"${{ inputs.absent }}|${{ github.event.none.deeper }}":                         "|",
		"pr-${{ github.event.pull_request.number || github.run_id }}":                  "pr-7",
		"${{ github.event.issue.number || github.run_id }}":                            "42",
		"${{ inputs.dry && 'dry' || 'wet' }}":                                          "dry",
		"${{ !inputs.dry }}":                                                           "false",
		"${{ github.ref == 'REFS/heads/main' }}":                                       "true",
		"${{ github.run_id >= 42 && 1 < 2 }}":                                          "true",
		"${{ startsWith(github.ref, 'refs/heads/') && endsWith(github.ref, 'main') }}": "true",
		"${{ contains(github.ref, 'heads') }}":                                         "true",
		"${{ format('{0}-{1}', inputs.batch, 'x') }}":                                  "b1-x",
		"${{ format('{{0}} {0} {1}', '{1}', 'y') }}":                                   "{0} {1} y",
		"${{ github['ref'] }}":                                                         "refs/heads/main",
		"${{ github.event.commits[0].id }}":                                            "c0",
		"${{ fromJSON('{\"a\":3}').a }}":                                               "3",
		"${{ vars.REGION }}${{ vars.region }}":                                         "eueu",
		"${{ '}}' }} ${{ 'it''s' }}":                                                   "}} it's",
		"${{ github.event.pull_request.title }}":                                       "an ${{ inputs.batch }} injection",
		"${{ null }}${{ 1.5 }}${{ github.event }}":                                     "1.5Object",
	} {
		got, err := Evaluate(text, contexts())
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got != want {
			t.Errorf("%s = %q, want %q", text, got, want)
		}
	}
}

func TestExpressionsOverWhatIsNotThereYetAreErrors(t *testing.T) {
	for _, text := range []string{"${{ needs.a.outputs.b }}", "${{ secrets.X }}", "${{ hashFiles('x') }}", "${{ 1 + }}", "${{ open", "${{ format() }}", "${{ fromJSON('{') }}", "${{ contains('a') }}"} {
		if got, err := Evaluate(text, contexts()); err == nil {
			t.Errorf("%s = %q", text, got)
		}
	}
}

func TestRunNameAndConcurrencyReadTheEvent(t *testing.T) {
	w := parsed(t, "name: train\nrun-name: train ${{ inputs.batch }}\non: workflow_dispatch\nconcurrency: {group: 'g-${{ github.ref }}', cancel-in-progress: '${{ inputs.dry }}'}")
	title, err := w.DisplayTitle(contexts())
	if err != nil || title != "train b1" {
		t.Errorf("title %q, %v", title, err)
	}
	group, cancel, err := w.Concurrency(contexts())
	if err != nil || group != "g-refs/heads/main" || !cancel {
		t.Errorf("group %q, cancel %v, %v", group, cancel, err)
	}
}
