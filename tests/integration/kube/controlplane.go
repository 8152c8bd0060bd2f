package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	cliflag "k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	manageroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// What an endpoint's objects need to live and to go; each controller more is a start that is slower.
const controllers = "deployment-controller,replicaset-controller,namespace-controller,garbage-collector-controller," +
	"resourcequota-controller,serviceaccount-controller,disruption-controller,endpointslice-controller"

const readyWithin = 5 * time.Minute

// startControlPlane gives the path of a kubeconfig for its administrator once the API server is ready.
func startControlPlane(ctx context.Context, dir string, engines *engines) (string, error) {
	etcd, err := startEtcd(dir)
	if err != nil {
		return "", fmt.Errorf("etcd: %w", err)
	}
	key, err := writeKey(filepath.Join(dir, "service-accounts.key"))
	if err != nil {
		return "", err
	}
	token, err := writeToken(filepath.Join(dir, "tokens.csv"))
	if err != nil {
		return "", err
	}
	address, err := startAPIServer(ctx, dir, etcd, key, engines)
	if err != nil {
		return "", fmt.Errorf("kube-apiserver: %w", err)
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := writeKubeconfig(kubeconfig, address, filepath.Join(dir, "certs", "apiserver.crt"), token); err != nil {
		return "", err
	}
	if err := waitUntilReady(ctx, kubeconfig); err != nil {
		return "", fmt.Errorf("kube-apiserver: %w", err)
	}
	if err := startManager(ctx, kubeconfig, key); err != nil {
		return "", fmt.Errorf("kube-controller-manager: %w", err)
	}
	if err := startScheduler(ctx, kubeconfig); err != nil {
		return "", fmt.Errorf("kube-scheduler: %w", err)
	}
	return kubeconfig, nil
}

func startEtcd(dir string) (string, error) {
	anyPort := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = filepath.Join(dir, "etcd")
	config.LogLevel = "error"
	config.UnsafeNoFsync = true // A test's data need not outlive the machine's power.
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{anyPort}, []url.URL{anyPort}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{anyPort}, []url.URL{anyPort}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return "http://" + etcd.Clients[0].Addr().String(), nil
	case <-time.After(readyWithin):
		return "", fmt.Errorf("not ready within %s", readyWithin)
	}
}

func startAPIServer(ctx context.Context, dir, etcd, key string, engines *engines) (string, error) {
	options := apiserveroptions.NewServerRunOptions()
	flags := options.Flags()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	options.SecureServing.Listener = listener
	options.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	err = parse(&flags, map[string]string{
		"etcd-servers":                     etcd,
		"cert-dir":                         filepath.Join(dir, "certs"),
		"bind-address":                     "127.0.0.1",
		"token-auth-file":                  filepath.Join(dir, "tokens.csv"),
		"authorization-mode":               "RBAC",
		"service-account-issuer":           "https://kube.test",
		"service-account-key-file":         key,
		"service-account-signing-key-file": key,
		"service-cluster-ip-range":         "10.96.0.0/16",
		"endpoint-reconciler-type":         "none",
		// So that a watch can be told within a test that its version is too old (410).
		"watch-cache-sizes":        "configmaps#0",
		"etcd-compaction-interval": "5s",
	})
	if err != nil {
		return "", err
	}
	if err := options.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return "", err
	}
	completed, err := options.Complete(ctx)
	if err != nil {
		return "", err
	}
	if wrong := completed.Validate(); len(wrong) > 0 {
		return "", wrong[0]
	}
	config, err := apiserver.NewConfig(completed)
	if err != nil {
		return "", err
	}
	// The way to a pod: nothing listens at its address but an engine in our own memory.
	config.KubeAPIs.ControlPlane.Extra.ProxyTransport.DialContext = engines.dial
	whole, err := config.Complete()
	if err != nil {
		return "", err
	}
	server, err := apiserver.CreateServerChain(whole)
	if err != nil {
		return "", err
	}
	prepared, err := server.PrepareRun()
	if err != nil {
		return "", err
	}
	go endWith("kube-apiserver", func() error { return prepared.Run(ctx) })
	return "https://" + listener.Addr().String(), nil
}

func startManager(ctx context.Context, kubeconfig, key string) error {
	options, err := manageroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	known, disabled, aliases := manager.KnownControllers(), manager.ControllersDisabledByDefault(), manager.ControllerAliases()
	flags := options.Flags(known, disabled, aliases)
	options.ParsedFlags = &flags
	err = parse(&flags, map[string]string{
		"kubeconfig":                       kubeconfig,
		"leader-elect":                     "false",
		"secure-port":                      "0",
		"controllers":                      controllers,
		"service-account-private-key-file": key,
		"kube-api-qps":                     "500",
		"kube-api-burst":                   "1000",
	})
	if err != nil {
		return err
	}
	config, err := options.Config(ctx, known, disabled, aliases)
	if err != nil {
		return err
	}
	go endWith("kube-controller-manager", func() error { return manager.Run(ctx, config.Complete()) })
	return nil
}

func startScheduler(ctx context.Context, kubeconfig string) error {
	options := scheduleroptions.NewOptions()
	err := parse(options.Flags, map[string]string{
		"kubeconfig":   kubeconfig,
		"leader-elect": "false",
		"secure-port":  "0",
	})
	if err != nil {
		return err
	}
	config, made, err := scheduler.Setup(ctx, options)
	if err != nil {
		return err
	}
	go endWith("kube-scheduler", func() error { return scheduler.Run(ctx, config, made) })
	return nil
}

// endWith ends the process when a part of it ends: half a control plane would only make tests wait.
func endWith(name string, run func() error) {
	err := run()
	fmt.Fprintf(os.Stderr, "kube: %s ended: %v\n", name, err)
	os.Exit(1)
}

func parse(sets *cliflag.NamedFlagSets, values map[string]string) error {
	all := pflag.NewFlagSet("kube", pflag.ContinueOnError)
	for _, each := range sets.FlagSets {
		all.AddFlagSet(each)
	}
	var arguments []string
	for name, value := range values {
		arguments = append(arguments, "--"+name+"="+value)
	}
	return all.Parse(arguments)
}

func waitUntilReady(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(readyWithin)
	for {
		if _, err = client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			return nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("not ready within %s: %w", readyWithin, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func writeKey(path string) (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return path, os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func writeToken(path string) (string, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	token := hex.EncodeToString(secret)
	return token, os.WriteFile(path, []byte(token+",admin,admin,system:masters\n"), 0o600)
}

func writeKubeconfig(path, address, authority, token string) error {
	const name = "kube"
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: address, CertificateAuthority: authority}
	config.AuthInfos[name] = &api.AuthInfo{Token: token}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}
