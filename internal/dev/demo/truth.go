package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/registry"
)

// subject is a model and the data set it was made from.
type subject struct{ model, dataset string }

// served asks production's stable server which model it answers with.
func (d *demo) served(ctx context.Context) (string, error) {
	for _, s := range d.project.Environments["production"].Servers {
		if s.Slot != "stable" {
			continue
		}
		status, err := deployment.New(deployment.Tokens{Admin: d.stack.Credentials.AdminToken}).Status(ctx, s, d.project.Name)
		return status.Digest, err
	}
	return "", errors.New("production has no server in the slot stable")
}

// settled checks that the stable server, the alias production and the newest
// tag of the version name the same digest, and gives the champion.
func (d *demo) settled(ctx context.Context) (subject, error) {
	champion, err := d.registry.Champion(ctx)
	if errors.Is(err, registry.ErrNoChampion) {
		return subject{}, nil
	}
	if err != nil {
		return subject{}, err
	}
	served, err := d.served(ctx)
	if err != nil {
		return subject{}, err
	}
	if d.Way == Workflows { // the tag was made on a runner, and pushed
		if _, err := d.git(ctx, "fetch", "--quiet", "--tags", "origin"); err != nil {
			return subject{}, err
		}
	}
	tag := fmt.Sprintf("model/%s/v%d", d.project.Name, champion.Version)
	message, err := d.git(ctx, "tag", "--list", "--format=%(objecttype) %(contents)", tag)
	if err != nil {
		return subject{}, err
	}
	return subject{champion.Digest, champion.Dataset}, errors.Join(
		expect(served == champion.Digest, "the stable server to serve the alias's %s, it serves %s", champion.Digest, served),
		expect(strings.HasPrefix(message, "tag ") && strings.Contains(message, champion.Digest), "the annotated tag %s to name %s, it says %q", tag, champion.Digest, message),
	)
}
