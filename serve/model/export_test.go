package model

import "context"

// JudgeFor runs the first golden with profiling, wherever the model runs, and
// judges it as if the provider had been asked for.
func (m *Model) JudgeFor(ctx context.Context, provider string) (placement string, err error) {
	e, err := m.readGolden(m.bundle.Manifest.Goldens[0])
	if err != nil {
		return "", err
	}
	nodes, err := m.profile(ctx, e)
	if err != nil {
		return "", err
	}
	return judge(nodes, provider)
}
