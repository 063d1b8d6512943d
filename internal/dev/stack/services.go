package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-ml/penstock/internal/dev/process"
)

// Service names: as `status` prints them.
const (
	minioName      = "minio"
	mlflowName     = "mlflow"
	prometheusName = "prometheus"
	routerName     = "router"
	haproxyName    = "haproxy"
	servePrefix    = "serve-" // and the slot
)

// region is the one that S3 requests are signed for.
const region = "us-east-1"

// mlflowBucket takes MLflow's artifacts.
const mlflowBucket = "mlflow"

// service is one server of the stack.
type service struct {
	process.Spec
	ports  []string // names of what it listens on
	url    string   // where people find it
	health string
	config string                          // file that it reads at its start, if any
	ready  func(ctx context.Context) error // once healthy, before others use it
}

// fingerprint changes when the server would be started differently: another
// build of its program, other flags, secrets or configuration.
func (sv service) fingerprint() (string, error) {
	program, err := os.Stat(sv.Path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", sv.Name, err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %d %d\n%q\n%q\n", sv.Path, program.Size(), program.ModTime().UnixNano(), sv.Args, sv.Env)
	if sv.config != "" {
		text, err := os.ReadFile(sv.config)
		if err != nil {
			return "", fmt.Errorf("%s: its configuration: %w", sv.Name, err)
		}
		h.Write(text)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// serviceOf is the service that listens on a port.
func serviceOf(port string) string {
	switch port {
	case "minio", "minio-console":
		return minioName
	case "mlflow":
		return mlflowName
	case "prometheus":
		return prometheusName
	case "proxy", "proxy-metrics":
		return haproxyName
	case "router":
		return routerName
	}
	return servePrefix + strings.TrimSuffix(port, "-admin")
}

// services describes all servers in stages: what stands in a later stage needs
// the earlier ones. HAProxy reads the map that the router lays down.
func (s *state) services(o Options) ([][]service, error) {
	programs, err := findPrograms(o)
	if err != nil {
		return nil, err
	}
	first := []service{s.minio(programs, o), s.router(programs)}
	second := []service{s.mlflow(programs), s.prometheus(programs), s.haproxy(programs)}
	for _, slot := range Slots {
		second = append(second, s.serve(programs, o, slot))
	}
	return [][]service{first, second}, nil
}

// findPrograms looks for everything before anything is started.
func findPrograms(o Options) (map[string]string, error) {
	found := map[string]string{}
	for name, find := range map[string]func() (string, error){
		minioName:        func() (string, error) { return process.Cached("bin/minio") },
		mlflowName:       func() (string, error) { return process.Cached("mlflow/bin/mlflow") },
		prometheusName:   func() (string, error) { return process.Installed("prometheus") },
		haproxyName:      func() (string, error) { return process.Installed("haproxy") },
		"penstock":       func() (string, error) { return built(o.Programs, "penstock") },
		"penstock-serve": func() (string, error) { return built(o.Programs, "penstock-serve") },
	} {
		path, err := find()
		if err != nil {
			return nil, err
		}
		found[name] = path
	}
	if _, err := os.Stat(o.OnnxRuntime); err != nil {
		return nil, fmt.Errorf("ONNX Runtime's library: %w; run `make setup`, or name the file with --onnxruntime", err)
	}
	return found, nil
}

func built(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built (looked for %s): run `make build`, or name its folder with --programs", name, path)
	}
	return path, nil
}

func (s *state) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}
func (s *state) log(name string) string { return s.path("log", name+".log") }
func (s *state) at(port string) string  { return fmt.Sprintf("127.0.0.1:%d", s.Ports[port]) }

func (s *state) minio(programs map[string]string, o Options) service {
	return service{
		Spec: process.Spec{
			Name: minioName, Path: programs[minioName], Log: s.log(minioName),
			Args: []string{
				"server", s.path("minio"), "--quiet", "--address", s.at("minio"),
				"--console-address", s.at("minio-console"), "--certs-dir", s.path("minio-certs"),
			},
			Env: []string{
				"MINIO_ROOT_USER=" + s.Credentials.AccessKey, "MINIO_ROOT_PASSWORD=" + s.Credentials.SecretKey,
				"MINIO_UPDATE=off", "MINIO_PROMETHEUS_AUTH_TYPE=public", // loopback only
			},
		},
		ports: []string{"minio", "minio-console"},
		url:   s.url("minio"), health: s.url("minio") + "/minio/health/ready",
		ready: func(ctx context.Context) error { return s.makeBuckets(ctx, mlflowBucket, o.Bucket) },
	}
}

func (s *state) mlflow(programs map[string]string) service {
	return service{
		Spec: process.Spec{
			Name: mlflowName, Path: programs[mlflowName], Log: s.log(mlflowName), Dir: s.dir,
			// MLflow answers 403 to a Host header it was not told about; on
			// 127.0.0.1 it knows localhost and 127.0.0.1 with any port.
			Args: []string{
				"server", "--host", "127.0.0.1", "--port", fmt.Sprint(s.Ports["mlflow"]), "--workers", "1",
				"--backend-store-uri", "sqlite:///" + s.path("mlflow.db"),
				"--artifacts-destination", "s3://" + mlflowBucket,
			},
			Env: append(s.stack().s3Env(), process.MLflowEnv(s.url("minio"))...),
		},
		ports: []string{"mlflow"}, url: s.url("mlflow"), health: s.url("mlflow") + "/health",
	}
}

func (s *state) prometheus(programs map[string]string) service {
	return service{
		Spec: process.Spec{
			Name: prometheusName, Path: programs[prometheusName], Log: s.log(prometheusName), Dir: s.dir,
			Args: []string{
				"--config.file=" + s.path("prometheus.yml"), "--storage.tsdb.path=" + s.path("prometheus"),
				"--storage.tsdb.retention.time=2d", "--web.listen-address=" + s.at("prometheus"),
			},
		},
		config: s.path("prometheus.yml"),
		ports:  []string{"prometheus"}, url: s.url("prometheus"), health: s.url("prometheus") + "/-/ready",
	}
}

func (s *state) router(programs map[string]string) service {
	return service{
		Spec: process.Spec{
			Name: routerName, Path: programs["penstock"], Log: s.log(routerName), Dir: s.dir,
			Args: []string{"router", "--listen", s.at("router"), "--map", s.mapFile(), "--socket", s.socket()},
			Env:  []string{"PENSTOCK_ROUTER_TOKEN=" + s.Credentials.RouterToken},
		},
		ports: []string{"router"}, url: s.url("router"), health: s.url("router") + "/healthz",
	}
}

func (s *state) haproxy(programs map[string]string) service {
	return service{
		Spec: process.Spec{
			Name: haproxyName, Path: programs[haproxyName], Log: s.log(haproxyName), Dir: s.dir,
			Args: []string{"-db", "-f", s.path("haproxy.cfg")},
		},
		config: s.path("haproxy.cfg"),
		ports:  []string{"proxy", "proxy-metrics"}, url: s.url("proxy"), health: s.url("proxy-metrics") + "/healthz",
	}
}

func (s *state) serve(programs map[string]string, o Options, slot string) service {
	name := servePrefix + slot
	return service{
		Spec: process.Spec{
			Name: name, Path: programs["penstock-serve"], Log: s.log(name), Dir: s.dir,
			Args: []string{
				"run", "--listen", s.at(slot), "--admin-listen", s.at(slot + "-admin"), "--slot", slot,
				"--bucket", o.Bucket, "--name", o.Model, "--slo", o.SLO.String(),
				"--cache", s.path("models"), "--state", s.path("state", slot), "--onnxruntime", o.OnnxRuntime, "--drain", drain.String(),
			},
			Env: append(s.stack().s3Env(), "PENSTOCK_ADMIN_TOKEN="+s.Credentials.AdminToken, "ORT_DISABLE_TELEMETRY=1"),
		},
		ports: []string{slot, slot + "-admin"},
		url:   s.url(slot), health: s.url(slot) + "/v2/health/live", // live without a model
	}
}
