package scaffold

import (
	"bytes"
	_ "embed" // the project file's template
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"
)

// Project is what a fresh project file has to be told.
type Project struct {
	Name   string
	Task   string
	Bucket string
	Labels []Label
}

// Label is a finding the model scores.
type Label struct {
	Name    string
	Urgency string
}

// ParseLabels reads NAME or NAME:URGENCY, separated by commas. Without an
// urgency a finding is routine.
func ParseLabels(text string) ([]Label, error) {
	var labels []Label
	for part := range strings.SplitSeq(text, ",") {
		name, urgency, told := strings.Cut(strings.TrimSpace(part), ":")
		if !told {
			urgency = "routine"
		}
		if name == "" || urgency == "" {
			return nil, fmt.Errorf("labels %q: wanted is NAME,NAME:URGENCY,…", text)
		}
		labels = append(labels, Label{strings.TrimSpace(name), strings.TrimSpace(urgency)})
	}
	return labels, nil
}

//go:embed penstock.yaml.tmpl
var projectText string

// YAML renders the project file. Whether it is a valid one, the caller asks the
// stages.
func (p Project) YAML() ([]byte, error) {
	if len(p.Labels) == 0 {
		return nil, errors.New("labels: name at least one")
	}
	t, err := template.New("penstock.yaml").Funcs(template.FuncMap{"scalar": scalar}).Parse(projectText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, p)
	return b.Bytes(), err
}

// scalar writes a string so that YAML reads the same string: plain where it is
// a plain word, else as JSON, which YAML contains.
func scalar(s string) (string, error) {
	plain := s != ""
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		plain = plain && (letter || i > 0 && (r >= '0' && r <= '9' || r == '_' || r == '-' || r == ' ' && i < len(s)-1))
	}
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		plain = false
	}
	if plain {
		return s, nil
	}
	data, err := json.Marshal(s)
	return string(data), err
}
