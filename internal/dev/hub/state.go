package hub

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// state is all that the snapshot keeps.
type state struct {
	LastID       int64
	Repositories []*repository
}

type repository struct {
	ID             int64
	Owner, Name    string
	Private        bool
	Parent         string // full name of what this is a fork of
	DefaultBranch  string
	ActionsEnabled bool // off in forks, as at GitHub
	Created        time.Time
	Pushed         time.Time
	LastNumber     int // of issues and pull requests

	Workflows   []*workflowRecord
	Runs        []*run // oldest first
	Issues      []*issue
	Comments    []*comment
	Deployments []*deployment
	Statuses    []*commitStatus
	CheckRuns   []*checkRun
	Releases    []*release
	Artifacts   []*artifact
}

type workflowRecord struct {
	ID         int64
	Path, Name string
	Disabled   bool
	Runs       int // number of the newest run
	Created    time.Time
}

// Words of GitHub's for what runs and jobs are at.
const (
	statusQueued     = "queued"
	statusPending    = "pending" // held back by its concurrency group
	statusInProgress = "in_progress"
	statusCompleted  = "completed"

	startupFailure = "startup_failure"
)

type run struct {
	ID              int64
	Number, Attempt int
	Workflow        int64
	Path, Name      string // of the workflow
	Title           string
	Event           string
	Status          string
	Conclusion      string
	Ref, SHA        string // GITHUB_REF and GITHUB_SHA: of a pull request the merge
	HeadBranch      string
	HeadSHA         string
	HeadRepository  string
	Actor           string
	Triggering      string // who started this attempt
	Created         time.Time
	Started         time.Time // of this attempt
	Updated         time.Time
	Payload         json.RawMessage
	Pull            int    // number of the pull request
	Fork            bool   // a fork's pull request: reads only, no secrets
	Group           string // concurrency group
	Permissions     map[string]string
	Chain           int    // how many workflow_run events led here
	Waiting         string // why it is queued
	Problem         string // why it could not start
	Inputs          map[string]any
	Jobs            []*job
	Earlier         []*attempt
}

// attempt is an earlier attempt of a run.
type attempt struct {
	Number           int
	Conclusion       string
	Started, Updated time.Time
	Triggering       string
	Jobs             []*job
}

type job struct {
	ID                 int64
	Attempt            int
	Key, Name          string
	Labels             []string
	Status, Conclusion string
	Created            time.Time
	Started, Completed time.Time
	Steps              []*step
	Outputs            map[string]string
	Summaries          []string
	Reason             string // why it did not run
	Deployment         int64
	EnvironmentURL     string
}

type step struct {
	Name               string
	Status, Conclusion string
	Started, Completed time.Time
}

type issue struct {
	ID               int64
	Number           int
	Title, Body      string
	State            string
	User             string
	Created, Updated time.Time
	Closed           time.Time
	Labels           []string
	Pull             *pull // nil for an issue
}

type pull struct {
	ID                 int64
	Base               string // branch
	BaseSHA            string
	HeadRepository     string // full name; "" after the fork is gone
	Head, HeadSHA      string
	Draft, Merged      bool
	MergedBy           string
	MergedAt           time.Time
	MergeSHA           string // the trial merge, or what it was merged as
	Mergeable          bool
	MaintainerCanPush  bool
	Additions, Deleted int
	Files, Commits     int
}

type comment struct {
	ID               int64
	Number           int // of the issue
	User             string
	Body             string
	Created, Updated time.Time
}

type deployment struct {
	ID                      int64
	SHA, Ref, Task          string
	Environment, Original   string
	Description, Creator    string
	Payload                 json.RawMessage
	Transient, Production   bool
	Created, Updated        time.Time
	Run                     int64
	Job                     int64
	Statuses                []*deploymentStatus // oldest first
	AutoMerge, RequiredNone bool
}

type deploymentStatus struct {
	ID                           int64
	State, Creator, Description  string
	LogURL, Environment, SiteURL string
	Created                      time.Time
}

type commitStatus struct {
	ID                                    int64
	SHA, State, Context, Description, URL string
	Creator                               string
	Created                               time.Time
}

type checkRun struct {
	ID                           int64
	SHA, Name, External, Details string
	Status, Conclusion           string
	Title, Summary, Text         string
	Annotations                  []json.RawMessage
	App                          string
	Started, Completed           time.Time
}

type release struct {
	ID                int64
	Tag, Target, Name string
	Body, Author      string
	Draft, Prerelease bool
	Created           time.Time
	Published         time.Time
	Assets            []*asset
}

type asset struct {
	ID         int64
	Name, Type string
	Size       int64
	Digest     string
	Uploader   string
	Created    time.Time
}

type artifact struct {
	ID      int64
	Run     int64
	Name    string
	Size    int64
	Digest  string
	Created time.Time
}

func (r *repository) full() string { return r.Owner + "/" + r.Name }

// repository finds one by owner and name, without regard to case.
func (s *state) repository(owner, name string) *repository {
	for _, r := range s.Repositories {
		if strings.EqualFold(r.Owner, owner) && strings.EqualFold(r.Name, name) {
			return r
		}
	}
	return nil
}

func (s *state) byFull(full string) *repository {
	owner, name, _ := strings.Cut(full, "/")
	return s.repository(owner, name)
}

func (r *repository) run(id int64) *run {
	return find(r.Runs, func(x *run) bool { return x.ID == id })
}

func (r *repository) issue(number int) *issue {
	return find(r.Issues, func(x *issue) bool { return x.Number == number })
}

// record is the workflow with this path; it is made where there is none.
func (h *Hub) record(r *repository, path, name string) *workflowRecord {
	w := find(r.Workflows, func(x *workflowRecord) bool { return x.Path == path })
	if w == nil {
		w = &workflowRecord{ID: h.id(), Path: path, Created: h.now()}
		r.Workflows = append(r.Workflows, w)
	}
	w.Name = name
	return w
}

// find gives the first that fits, or nil.
func find[T any](all []*T, fits func(*T) bool) *T {
	if i := slices.IndexFunc(all, fits); i >= 0 {
		return all[i]
	}
	return nil
}

// newest gives a copy with the newest first.
func newest[T any](all []T) []T {
	out := slices.Clone(all)
	slices.Reverse(out)
	return out
}

// CreateRepository makes an empty repository with default branch main.
func (h *Hub) CreateRepository(owner, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.createRepository(owner, name, "", false)
	return err
}

// EnsureRepository makes a repository where it is not there yet.
func (h *Hub) EnsureRepository(owner, name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state.repository(owner, name) != nil {
		return nil
	}
	_, err := h.createRepository(owner, name, "", false)
	return err
}

func (h *Hub) createRepository(owner, name, parent string, private bool) (*repository, error) {
	if !nameRule.MatchString(owner) || !nameRule.MatchString(name) || strings.HasSuffix(name, ".git") {
		return nil, fmt.Errorf("hub: repository %q/%q: letters, digits, -, _ and . only", owner, name)
	}
	if h.state.repository(owner, name) != nil {
		return nil, fmt.Errorf("hub: repository %s/%s is there already", owner, name)
	}
	r := &repository{
		ID: h.id(), Owner: owner, Name: name, Parent: parent, Private: private,
		DefaultBranch: "main", ActionsEnabled: parent == "", Created: h.now(), Pushed: h.now(),
	}
	if err := h.initGit(r); err != nil {
		return nil, err
	}
	h.state.Repositories = append(h.state.Repositories, r)
	h.changed()
	return r, nil
}
