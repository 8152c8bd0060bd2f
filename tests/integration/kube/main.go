// A real Kubernetes for tests: etcd, kube-apiserver, kube-controller-manager and kube-scheduler in this process, on
// loopback and on free ports, with nodes that a fake kubelet of ours brings. Prints the path of a kubeconfig when ready.
//
//	kube -dir DIR               everything
//	kube -kubelet KUBECONFIG    only the nodes and their kubelet, in a cluster that is there already
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	dir := flag.String("dir", "", "where etcd, keys and the kubeconfig go; the caller removes it")
	kubeconfig := flag.String("kubelet", "", "bring only the nodes, to the cluster of this kubeconfig")
	follow := flag.Bool("follow-stdin", false, "end when standard input does, so that no caller leaves us behind")
	fleet := fleetFlags()
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if *follow {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	if err := run(ctx, *dir, *kubeconfig, fleet); err != nil {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
	// Nothing here is worth a graceful end: the caller throws the directory away.
	os.Exit(0)
}

func run(ctx context.Context, dir, kubeconfig string, fleet *fleet) error {
	engines := newEngines()
	if kubeconfig == "" {
		if dir == "" {
			return fmt.Errorf("-dir says where to put everything")
		}
		made, err := startControlPlane(ctx, dir, engines)
		if err != nil {
			return err
		}
		kubeconfig = made
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = -1, -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := startKubelet(ctx, client, fleet, engines); err != nil {
		return err
	}
	fmt.Println(kubeconfig)
	<-ctx.Done()
	return nil
}
