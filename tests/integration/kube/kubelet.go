package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	heartbeat = 10 * time.Second // A node that is silent for 40 s is taken for dead where somebody looks.
	podNet    = "10.64."
)

// fleet is the nodes that we pretend to be, and how long each step of a pod takes.
type fleet struct {
	prefix                              *string
	count, gpus                         *int
	pull, run, load, restart, terminate *time.Duration
}

func fleetFlags() *fleet {
	return &fleet{
		prefix:    flag.String("nodes-prefix", "gpu", "names of nodes begin so"),
		count:     flag.Int("nodes", 2, "how many nodes"),
		gpus:      flag.Int("gpus", 8, "nvidia.com/gpu of each"),
		pull:      flag.Duration("pull", 300*time.Millisecond, "how long an image takes"),
		run:       flag.Duration("run", 300*time.Millisecond, "how long an init container runs"),
		load:      flag.Duration("load", 500*time.Millisecond, "how long an engine takes until it is ready"),
		restart:   flag.Duration("restart", 500*time.Millisecond, "how long a container that ended waits for its next try"),
		terminate: flag.Duration("terminate", 300*time.Millisecond, "how long a pod that was told to stop still runs"),
	}
}

// kubelet walks every pod on our nodes through its life.
type kubelet struct {
	client  kubernetes.Interface
	fleet   *fleet
	engines *engines
	mutex   sync.Mutex
	lives   map[types.UID]context.CancelFunc
	next    int
}

// startKubelet makes the nodes and begins to run what is bound to them.
func startKubelet(ctx context.Context, client kubernetes.Interface, fleet *fleet, engines *engines) error {
	one := &kubelet{client: client, fleet: fleet, engines: engines, lives: map[types.UID]context.CancelFunc{}}
	for number := range *fleet.count {
		if err := one.join(ctx, fmt.Sprintf("%s-%d", *fleet.prefix, number)); err != nil {
			return err
		}
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(fresh any) { one.seen(ctx, fresh.(*core.Pod)) },
		UpdateFunc: func(_, fresh any) { one.seen(ctx, fresh.(*core.Pod)) },
		DeleteFunc: one.gone,
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return nil
}

func (one *kubelet) join(ctx context.Context, name string) error {
	node := &core.Node{
		ObjectMeta: meta.ObjectMeta{Name: name, Labels: map[string]string{
			"kubernetes.io/hostname": name,
			"kubernetes.io/os":       "linux",
			"kubernetes.io/arch":     "amd64",
			"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
		}},
		Spec: core.NodeSpec{Taints: []core.Taint{{Key: "nvidia.com/gpu", Value: "present", Effect: core.TaintEffectNoSchedule}}},
	}
	nodes := one.client.CoreV1().Nodes()
	made, err := nodes.Create(ctx, node, meta.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		made, err = nodes.Get(ctx, name, meta.GetOptions{})
	}
	if err != nil {
		return err
	}
	made.Spec.Taints = node.Spec.Taints // Without "not ready", which admission puts on every new node.
	if _, err = nodes.Update(ctx, made, meta.UpdateOptions{}); err != nil {
		return err
	}
	if err = one.beat(ctx, name); err != nil {
		return err
	}
	go func() {
		for range time.Tick(heartbeat) {
			if err := one.beat(ctx, name); err != nil {
				fmt.Println("kubelet: heartbeat:", err)
			}
		}
	}()
	return nil
}

func (one *kubelet) beat(ctx context.Context, name string) error {
	gpus := resource.MustParse(fmt.Sprint(*one.fleet.gpus))
	capacity := core.ResourceList{
		core.ResourceCPU:              resource.MustParse("192"),
		core.ResourceMemory:           resource.MustParse("1536Gi"),
		core.ResourceEphemeralStorage: resource.MustParse("8Ti"),
		core.ResourcePods:             resource.MustParse("110"),
		"nvidia.com/gpu":              gpus,
		"nvidia.com/mig-1g.10gb":      resource.MustParse("7"),
	}
	now := meta.Now()
	ready := core.NodeCondition{
		Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now,
	}
	return one.patch(func(data []byte) error {
		_, err := one.client.CoreV1().Nodes().Patch(
			ctx, name, types.StrategicMergePatchType, data, meta.PatchOptions{}, "status")
		return err
	}, core.NodeStatus{Capacity: capacity, Allocatable: capacity, Conditions: []core.NodeCondition{ready}})
}

func (one *kubelet) patch(send func([]byte) error, status any) error {
	data, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	return send(data)
}

func (one *kubelet) seen(ctx context.Context, pod *core.Pod) {
	if !strings.HasPrefix(pod.Spec.NodeName, *one.fleet.prefix+"-") {
		return
	}
	one.mutex.Lock()
	defer one.mutex.Unlock()
	end, isKnown := one.lives[pod.UID]
	if pod.DeletionTimestamp != nil {
		if !isKnown || end != nil {
			if end != nil {
				end()
			}
			one.lives[pod.UID] = nil
			go one.terminate(ctx, pod)
		}
		return
	}
	if isKnown {
		return
	}
	one.next++
	life, end := context.WithCancel(ctx)
	one.lives[pod.UID] = end
	go one.live(life, pod.DeepCopy(), podIP(one.next))
}

func (one *kubelet) gone(last any) {
	if lost, isLost := last.(cache.DeletedFinalStateUnknown); isLost {
		last = lost.Obj
	}
	pod, isPod := last.(*core.Pod)
	if !isPod {
		return
	}
	one.mutex.Lock()
	defer one.mutex.Unlock()
	if end := one.lives[pod.UID]; end != nil {
		end()
	}
	delete(one.lives, pod.UID)
	if pod.Status.PodIP != "" {
		one.engines.stop(pod.Status.PodIP)
	}
}

// terminate confirms the end of a pod that was told to stop, as its kubelet does: by a delete without grace.
func (one *kubelet) terminate(ctx context.Context, pod *core.Pod) {
	time.Sleep(*one.fleet.terminate)
	one.engines.stop(pod.Status.PodIP)
	none := int64(0)
	options := meta.DeleteOptions{GracePeriodSeconds: &none, Preconditions: &meta.Preconditions{UID: &pod.UID}}
	for {
		err := one.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, options)
		if err == nil || errors.IsNotFound(err) || errors.IsConflict(err) || ctx.Err() != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

func podIP(number int) string { return fmt.Sprintf("%s%d.%d", podNet, number/250, number%250+1) }

func isPodIP(host string) bool { return strings.HasPrefix(host, podNet) && net.ParseIP(host) != nil }
