package actrun

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// JobPlan is a job as the workflow file states it. Expressions stay as they
// are written.
type JobPlan struct {
	ID             string
	Name           string   // the ID where the file gives none
	RunsOn         []string // labels; of `runs-on: {group, labels}` the labels
	Environment    string   // its name, also of the long form
	Needs          []string
	Uses           string // reusable workflow that this job calls
	If             string
	TimeoutMinutes float64 // 0 where the file states none
	Matrix         bool    // one plan, several jobs
}

// SelfHosted says whether the job asks for a runner of one's own.
func (j JobPlan) SelfHosted() bool {
	for _, label := range j.RunsOn {
		if strings.EqualFold(label, "self-hosted") {
			return true
		}
	}
	return false
}

// Jobs reads the jobs of a workflow file, in the file's order.
func Jobs(workflow []byte) ([]JobPlan, error) {
	var file struct {
		Jobs yaml.MapSlice `yaml:"jobs"`
	}
	if err := yaml.Unmarshal(workflow, &file); err != nil {
		return nil, fmt.Errorf("workflow file: %w", err)
	}
	if len(file.Jobs) == 0 {
		return nil, errors.New("workflow file: it has no jobs")
	}
	var plans []JobPlan
	for _, item := range file.Jobs {
		id, ok := item.Key.(string)
		if !ok {
			return nil, fmt.Errorf("workflow file: job key %v is no text", item.Key)
		}
		plan, err := readJob(id, item.Value)
		if err != nil {
			return nil, fmt.Errorf("workflow file: job %s: %w", id, err)
		}
		plans = append(plans, plan)
	}
	return plans, nil
}

// readJob decodes the keys of one job that the plan speaks of.
func readJob(id string, value any) (JobPlan, error) {
	data, err := yaml.Marshal(value)
	if err != nil {
		return JobPlan{}, err
	}
	var job struct {
		Name        any            `yaml:"name"`
		RunsOn      any            `yaml:"runs-on"`
		Environment any            `yaml:"environment"`
		Needs       any            `yaml:"needs"`
		Uses        string         `yaml:"uses"`
		If          any            `yaml:"if"`
		Timeout     any            `yaml:"timeout-minutes"`
		Strategy    map[string]any `yaml:"strategy"`
	}
	if err := yaml.Unmarshal(data, &job); err != nil {
		return JobPlan{}, err
	}
	plan := JobPlan{ID: id, Name: id, Uses: job.Uses}
	if job.Name != nil {
		plan.Name = fmt.Sprint(job.Name)
	}
	if job.If != nil {
		plan.If = fmt.Sprint(job.If)
	}
	_, plan.Matrix = job.Strategy["matrix"]
	if plan.RunsOn, err = labels(job.RunsOn); err != nil {
		return JobPlan{}, fmt.Errorf("runs-on: %w", err)
	}
	if plan.Needs, err = words(job.Needs); err != nil {
		return JobPlan{}, fmt.Errorf("needs: %w", err)
	}
	if plan.Environment, err = environment(job.Environment); err != nil {
		return JobPlan{}, fmt.Errorf("environment: %w", err)
	}
	if plan.TimeoutMinutes, err = minutes(job.Timeout); err != nil {
		return JobPlan{}, fmt.Errorf("timeout-minutes: %w", err)
	}
	if (plan.Uses == "") == (len(plan.RunsOn) == 0) {
		return JobPlan{}, errors.New("it needs either runs-on or uses")
	}
	return plan, nil
}

// labels reads runs-on: a label, a list, or {group, labels}.
func labels(value any) ([]string, error) {
	if long, ok := value.(map[string]any); ok {
		found, err := words(long["labels"])
		if err == nil && len(found) == 0 {
			return nil, errors.New("a group without labels cannot be matched here")
		}
		return found, err
	}
	return words(value)
}

// words reads one text or a list of them.
func words(value any) ([]string, error) {
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		var all []string
		for _, item := range v {
			word, ok := item.(string)
			if !ok {
				return nil, fmt.Errorf("%v is no text", item)
			}
			all = append(all, word)
		}
		return all, nil
	}
	return nil, fmt.Errorf("%v is neither text nor a list", value)
}

func environment(value any) (string, error) {
	if long, ok := value.(map[string]any); ok {
		value = long["name"]
	}
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	}
	return "", fmt.Errorf("%v is no name", value)
}

func minutes(value any) (float64, error) {
	switch v := value.(type) {
	case nil:
		return 0, nil
	case uint64:
		return float64(v), nil
	case float64:
		return v, nil
	}
	return 0, fmt.Errorf("%v is no number of minutes", value)
}
