package stack

import (
	"bytes"
	_ "embed" // the two templates
	"fmt"
	"path/filepath"
	"text/template"

	"github.com/penstock-ml/penstock/internal/verdict"
)

var (
	//go:embed haproxy.cfg.tmpl
	haproxyTemplate string
	//go:embed prometheus.yml.tmpl
	prometheusTemplate string
)

// configValues is what the templates may use.
type configValues struct {
	*state
	Socket, Map string
	Slots       []string
}

// writeConfig writes the configuration of the servers that take a file.
func writeConfig(s *state) error {
	values := configValues{state: s, Socket: s.socket(), Map: s.mapFile(), Slots: Slots}
	for name, text := range map[string]string{"haproxy.cfg": haproxyTemplate, "prometheus.yml": prometheusTemplate} {
		t, err := template.New(name).Parse(text)
		if err != nil {
			return fmt.Errorf("template of %s: %w", name, err)
		}
		var out bytes.Buffer
		if err := t.Execute(&out, values); err != nil {
			return fmt.Errorf("template of %s: %w", name, err)
		}
		if err := verdict.WriteFile(filepath.Join(s.dir, name), out.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
