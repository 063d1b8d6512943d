package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/registry"
)

// subject is a model and the data set it was made from.
type subject struct{ model, dataset string }

// served asks production's stable server which model it answers with.
func (d *demo) served(ctx context.Context) (string, error) {
	s, err := d.production("stable")
	if err != nil {
		return "", err
	}
	status, err := deployment.New(deployment.Tokens{Admin: d.stack.Credentials.AdminToken}).Status(ctx, s, d.project.Name)
	return status.Digest, err
}

func (d *demo) production(slot string) (deployment.Server, error) {
	servers := d.project.Environments["production"].Servers
	i := slices.IndexFunc(servers, func(s deployment.Server) bool { return s.Slot == slot })
	if i < 0 {
		return deployment.Server{}, fmt.Errorf("production has no server in the slot %s", slot)
	}
	return servers[i], nil
}

// forget has a production server unload its model, and with it the requests
// that it remembers.
func (d *demo) forget(ctx context.Context, slot string) error {
	s, err := d.production(slot)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.Admin+"/admin/v1/models/"+d.project.Name, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+d.stack.Credentials.AdminToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("unload the model of %s: %w", slot, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("unload the model of %s: %s", slot, answer.Status)
	}
	return nil
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
