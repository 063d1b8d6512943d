package openloop

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
)

// prediction is the part of an answer's JSON that a caller depends on.
type prediction struct {
	Error       *json.RawMessage `json:"error"`
	Predictions []struct {
		Label string   `json:"label"`
		Score *float64 `json:"score"`
	} `json:"predictions"`
}

// checkPrediction refuses an answer that no caller could use: what is no JSON,
// holds an error, lacks one of labels or any label at all, or has a score that
// is no finite number.
func checkPrediction(body []byte, labels []string) error {
	var p prediction
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("not a prediction: %w: %s", err, excerpt(body))
	}
	if p.Error != nil {
		return fmt.Errorf("an error with status 200: %s", excerpt(*p.Error))
	}
	if len(p.Predictions) == 0 {
		return errors.New("no prediction in it: " + excerpt(body))
	}
	scored := make(map[string]bool, len(p.Predictions))
	for _, entry := range p.Predictions {
		if entry.Score == nil || math.IsNaN(*entry.Score) || math.IsInf(*entry.Score, 0) {
			return fmt.Errorf("label %q has no finite score", entry.Label)
		}
		scored[entry.Label] = true
	}
	var missing []string
	for _, label := range labels {
		if !scored[label] {
			missing = append(missing, label)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no score for %s", strings.Join(missing, ", "))
	}
	return nil
}
