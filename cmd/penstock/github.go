package main

import (
	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/outside/github"
	"github.com/penstock-ml/penstock/internal/verdict"
)

// githubVariables open GitHub.
func githubVariables() []action.Variable {
	return []action.Variable{
		{Name: github.TokenVariable, Description: "token for GitHub: the workflow's own, or a fine-grained one", Secret: true},
		{Name: github.AppVariable, Description: "id of a GitHub App that asks instead of a token"},
		{Name: github.KeyVariable, Description: "its private key, PEM", Secret: true},
		{Name: github.RepositoryVariable, Description: "owner/name; set in Actions"},
		{Name: github.APIVariable, Description: "base URL of GitHub's API (default: https://api.github.com); set in Actions"},
	}
}

// openGitHub opens the repository on GitHub; it makes no call.
func openGitHub(env *action.Env) (*github.Client, error) {
	client, err := github.FromEnv(env.Getenv)
	return client, verdict.Coded("credentials", err)
}
