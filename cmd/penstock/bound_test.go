package main

import (
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/penstock-ml/penstock/internal/line/training"
)

func TestOnlyKnownParametersAreSetAndTheLimitOnlyFalls(t *testing.T) {
	for name, c := range map[string]struct {
		set     []string
		timeout time.Duration
		want    map[string]any
		limit   time.Duration
		fails   bool
	}{
		"nothing":         {want: map[string]any{"epochs": 10, "device": "auto"}, limit: time.Hour},
		"a number":        {set: []string{"epochs=4"}, want: map[string]any{"epochs": 4.0, "device": "auto"}, limit: time.Hour},
		"a word":          {set: []string{"device=cpu"}, want: map[string]any{"epochs": 10, "device": "cpu"}, limit: time.Hour},
		"a lower limit":   {timeout: time.Minute, want: map[string]any{"epochs": 10, "device": "auto"}, limit: time.Minute},
		"a higher limit":  {timeout: 2 * time.Hour, fails: true},
		"a negative one":  {timeout: -time.Second, fails: true},
		"an unknown name": {set: []string{"epoch=4"}, fails: true},
		"no value":        {set: []string{"epochs"}, fails: true},
	} {
		config := training.Config{Params: map[string]any{"epochs": 10, "device": "auto"}, Timeout: time.Hour}
		err := trainOptions{set: *cli.NewStringSlice(c.set...), timeout: c.timeout}.bound(&config)
		if (err != nil) != c.fails {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		for key, want := range c.want {
			if config.Params[key] != want {
				t.Errorf("%s: %s is %v, want %v", name, key, config.Params[key], want)
			}
		}
		if config.Timeout != c.limit {
			t.Errorf("%s: the limit is %s, want %s", name, config.Timeout, c.limit)
		}
	}
}
