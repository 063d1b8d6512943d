package process

// MLflowEnv is what an MLflow server on a laptop needs beyond credentials: the
// S3 endpoint for its artifacts, no job runner (seven more processes that
// nobody asks for), and no word to anybody outside.
func MLflowEnv(s3Endpoint string) []string {
	return []string{
		"MLFLOW_S3_ENDPOINT_URL=" + s3Endpoint,
		"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false",
		"MLFLOW_DISABLE_TELEMETRY=true",
		"DO_NOT_TRACK=true",
		"PYTHONUNBUFFERED=1",
	}
}
