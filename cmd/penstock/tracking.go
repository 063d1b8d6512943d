package main

import (
	"github.com/penstock-ml/penstock/internal/action"
	"github.com/penstock-ml/penstock/internal/line/deployment"
	"github.com/penstock-ml/penstock/internal/line/registry"
	"github.com/penstock-ml/penstock/internal/outside/mlflow"
	"github.com/penstock-ml/penstock/internal/verdict"
	"github.com/penstock-ml/penstock/internal/workspace"
)

var (
	adminVariable  = action.Variable{Name: "PENSTOCK_ADMIN_TOKEN", Description: "token of the servers' admin listeners", Secret: true}
	apiVariable    = action.Variable{Name: "PENSTOCK_API_TOKEN", Description: "token of the servers' public listeners, where they want one", Secret: true}
	routerVariable = action.Variable{Name: "PENSTOCK_ROUTER_TOKEN", Description: "token of the routers", Secret: true}
)

// trackingVariables open MLflow.
func trackingVariables() []action.Variable {
	return []action.Variable{
		{Name: "MLFLOW_TRACKING_URI", Description: "address of MLflow"},
		{Name: "MLFLOW_TRACKING_USERNAME", Description: "who asks, where the server wants a password"},
		{Name: "MLFLOW_TRACKING_PASSWORD", Description: "its password", Secret: true},
		{Name: "MLFLOW_TRACKING_TOKEN", Description: "token, where the server wants one", Secret: true},
	}
}

func openTracking(env *action.Env) (*mlflow.Client, error) {
	credentials, err := mlflow.CredentialsFromEnv(env.Getenv)
	if err != nil {
		return nil, verdict.Coded("credentials", err)
	}
	return mlflow.Open(credentials)
}

// openRegistry opens the project's registered model.
func openRegistry(env *action.Env, w *workspace.Workspace) (*registry.Registry, error) {
	client, err := openTracking(env)
	if err != nil {
		return nil, err
	}
	models := client.Registry()
	return &registry.Registry{
		Model: w.Project.Name, Versions: models, Aliases: models, Store: w.Bucket, Now: env.Now,
	}, nil
}

func openDeployment(env *action.Env) *deployment.Client {
	return deployment.New(deployment.Tokens{
		Admin:  env.Getenv(adminVariable.Name),
		Router: env.Getenv(routerVariable.Name),
	})
}
