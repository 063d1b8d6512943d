package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
)

// ArtifactSchema is the version of an artifact. A reader refuses any other.
const ArtifactSchema = "penstock.comment/1"

// ArtifactFile is the one file of an artifact, in its folder.
const ArtifactFile = "comment.json"

// maxArtifact is the greatest size of an artifact in bytes.
const maxArtifact = 1 << 20

// Artifact carries facts from a run that may not comment (a fork's) to one that
// may. Whoever reads it believes nothing in it: the pull request's number is
// checked against the run it came from, and the facts are shown as that run's
// word.
type Artifact struct {
	Schema      string      `json:"schema"`
	PullRequest json.Number `json:"pull_request"`
	Facts       Facts       `json:"facts"`
}

// NewArtifact makes the artifact for a pull request.
func NewArtifact(pullRequest int, f Facts) Artifact {
	return Artifact{Schema: ArtifactSchema, PullRequest: json.Number(fmt.Sprint(pullRequest)), Facts: f}
}

// Encode gives the artifact's file.
func (a Artifact) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the artifact: %w", err)
	}
	if len(data) > maxArtifact {
		return nil, fmt.Errorf("the artifact has %d bytes, at most %d are read", len(data), maxArtifact)
	}
	return append(data, '\n'), nil
}

var numberForm = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)

// Number is the pull request's number.
func (a Artifact) Number() (int, error) {
	if !numberForm.MatchString(string(a.PullRequest)) {
		return 0, fmt.Errorf("%q is no number of a pull request", clean(string(a.PullRequest), maxName))
	}
	n, err := a.PullRequest.Int64()
	return int(n), err
}

// ReadArtifact reads the artifact in a folder as data: one regular file of
// bounded size, one JSON value of exactly our form. Anything else is refused.
func ReadArtifact(dir string) (Artifact, error) {
	path := filepath.Join(dir, ArtifactFile)
	info, err := os.Lstat(path)
	if err != nil {
		return Artifact{}, fmt.Errorf("the artifact: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxArtifact {
		return Artifact{}, fmt.Errorf("the artifact %s is no regular file of at most %d bytes", path, maxArtifact)
	}
	f, err := os.Open(path)
	if err != nil {
		return Artifact{}, fmt.Errorf("the artifact: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxArtifact+1))
	if err != nil {
		return Artifact{}, fmt.Errorf("the artifact %s: %w", path, err)
	}
	a, err := decodeArtifact(data)
	if err != nil {
		return Artifact{}, fmt.Errorf("the artifact %s: %w", path, err)
	}
	return a, nil
}

func decodeArtifact(data []byte) (Artifact, error) {
	if len(data) > maxArtifact {
		return Artifact{}, fmt.Errorf("more than %d bytes", maxArtifact)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var a Artifact
	if err := dec.Decode(&a); err != nil {
		return Artifact{}, fmt.Errorf("not of our form: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Artifact{}, fmt.Errorf("not of our form: there is more than one JSON value")
	}
	if a.Schema != ArtifactSchema {
		return Artifact{}, fmt.Errorf("schema %q, this version reads %q", clean(a.Schema, maxName), ArtifactSchema)
	}
	if _, err := a.Number(); err != nil {
		return Artifact{}, err
	}
	if err := a.Facts.validate(); err != nil {
		return Artifact{}, err
	}
	return a, nil
}

// Most that an artifact may tell of.
const (
	maxSteps = 30
	maxJobs  = 500
)

var stepForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)

// validate refuses facts that no command of ours could have gathered.
func (f Facts) validate() error {
	if len(f.Steps) > maxSteps || len(f.Jobs) > maxJobs {
		return fmt.Errorf("%d steps and %d jobs, at most %d and %d are told", len(f.Steps), len(f.Jobs), maxSteps, maxJobs)
	}
	seen := map[string]bool{}
	for _, s := range f.Steps {
		if !stepForm.MatchString(s.Name) || seen[s.Name] {
			return fmt.Errorf("step %q is no name of a step, or stands twice", clean(s.Name, maxName))
		}
		seen[s.Name] = true
	}
	if f.Report != nil {
		return f.Report.Validate()
	}
	return nil
}
