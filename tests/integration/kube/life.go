package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What an image does is in its name, so that a test can order trouble wherever it can name an image:
//
//	fake.test/missing        is not in its registry
//	fake.test/exit-3         ends with exit code 3, whenever it is started
//	fake.test/oom            is killed because it has no more memory
//	fake.test/says-Reason    ends with exit code 1 and the message "Reason: as ordered"
//
// Any other can be pulled; as an init container it ends well, as a container it serves.
const ordered = "fake.test/"

type outcome struct {
	isMissing bool
	isEnd     bool
	code      int32
	reason    string
	message   string
}

func outcomeOf(image string) outcome {
	order, isOrdered := strings.CutPrefix(image, ordered)
	order, _, _ = strings.Cut(order, ":")
	switch {
	case !isOrdered:
		return outcome{}
	case order == "missing":
		return outcome{isMissing: true}
	case order == "oom":
		return outcome{isEnd: true, code: 137, reason: "OOMKilled"}
	case strings.HasPrefix(order, "exit-"):
		code, _ := strconv.Atoi(strings.TrimPrefix(order, "exit-"))
		return outcome{isEnd: true, code: int32(code), reason: "Error"}
	case strings.HasPrefix(order, "says-"):
		return outcome{isEnd: true, code: 1, reason: "Error", message: strings.TrimPrefix(order, "says-") + ": as ordered"}
	}
	return outcome{}
}

// life is one pod, from bound to ready.
type life struct {
	*kubelet
	pod  *core.Pod
	ip   string
	born meta.Time
	init []core.ContainerStatus
	main []core.ContainerStatus
}

func (one *kubelet) live(ctx context.Context, pod *core.Pod, ip string) {
	it := &life{kubelet: one, pod: pod, ip: ip, born: meta.Now()}
	it.init = waiting(pod.Spec.InitContainers)
	it.main = waiting(pod.Spec.Containers)
	for place := range it.init {
		if !it.runs(ctx, &it.init[place], true) {
			return
		}
	}
	for place := range it.main {
		if !it.runs(ctx, &it.main[place], false) {
			return
		}
	}
	if !pause(ctx, *one.fleet.load) {
		return
	}
	one.engines.start(ip)
	for place := range it.main {
		it.main[place].Ready = true
	}
	it.tell(ctx)
}

// runs brings one container up, or through its end; false if the pod's life is over before.
func (it *life) runs(ctx context.Context, status *core.ContainerStatus, isInit bool) bool {
	will := outcomeOf(status.Image)
	for {
		it.tell(ctx)
		if !pause(ctx, *it.fleet.pull) {
			return false
		}
		if will.isMissing {
			it.cannotPull(ctx, status)
			continue
		}
		started := true
		status.Started = &started
		status.ImageID = "sha256:" + strings.Repeat("e", 64)
		status.ContainerID = fmt.Sprintf("fake://%s/%s/%d", it.pod.UID, status.Name, status.RestartCount)
		status.State = core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: meta.Now()}}
		if !isInit && !will.isEnd {
			it.tell(ctx)
			return true
		}
		it.tell(ctx)
		if !pause(ctx, *it.fleet.run) {
			return false
		}
		if !will.isEnd {
			status.State = ended(status.ContainerID, outcome{reason: "Completed"})
			status.Ready = true
			it.tell(ctx)
			return true
		}
		if !it.fails(ctx, status, will) {
			return false
		}
	}
}

func (it *life) cannotPull(ctx context.Context, status *core.ContainerStatus) {
	for _, reason := range []string{"ErrImagePull", "ImagePullBackOff"} {
		status.State = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: reason, Message: "not found"}}
		it.tell(ctx)
	}
}

func (it *life) fails(ctx context.Context, status *core.ContainerStatus, with outcome) bool {
	status.State = ended(status.ContainerID, with)
	status.Started, status.Ready = nil, false
	it.tell(ctx)
	if !pause(ctx, *it.fleet.restart) {
		return false
	}
	status.LastTerminationState = status.State
	status.State = core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	status.RestartCount++
	return true
}

func ended(id string, with outcome) core.ContainerState {
	now := meta.Now()
	return core.ContainerState{Terminated: &core.ContainerStateTerminated{
		ExitCode: with.code, Reason: with.reason, Message: with.message, StartedAt: now, FinishedAt: now, ContainerID: id,
	}}
}

func waiting(containers []core.Container) []core.ContainerStatus {
	var all []core.ContainerStatus
	for _, each := range containers {
		state := core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "PodInitializing"}}
		all = append(all, core.ContainerStatus{Name: each.Name, Image: each.Image, State: state})
	}
	return all
}

// tell writes the pod's status as its kubelet sees it now.
func (it *life) tell(ctx context.Context) {
	now := meta.Now()
	isInitialized, isReady := true, true
	for _, each := range it.init {
		isInitialized = isInitialized && each.State.Terminated != nil && each.State.Terminated.ExitCode == 0
	}
	for _, each := range it.main {
		isReady = isReady && each.Ready
	}
	phase := core.PodPending
	if isInitialized {
		phase = core.PodRunning
	}
	status := core.PodStatus{
		Phase: phase, HostIP: "10.63.0.1", PodIP: it.ip, PodIPs: []core.PodIP{{IP: it.ip}}, StartTime: &it.born,
		InitContainerStatuses: it.init, ContainerStatuses: it.main,
		Conditions: []core.PodCondition{
			condition(core.PodInitialized, isInitialized, now), condition(core.ContainersReady, isReady, now),
			condition(core.PodReady, isReady, now), condition(core.PodScheduled, true, now),
		},
	}
	for ctx.Err() == nil {
		err := it.patch(func(data []byte) error {
			_, err := it.client.CoreV1().Pods(it.pod.Namespace).Patch(
				ctx, it.pod.Name, types.StrategicMergePatchType, data, meta.PatchOptions{}, "status")
			return err
		}, status)
		if err == nil || ctx.Err() != nil {
			return
		}
		fmt.Fprintf(os.Stderr, "kubelet: status of %s: %v\n", it.pod.Name, err)
		pause(ctx, time.Second)
	}
}

func condition(kind core.PodConditionType, holds bool, now meta.Time) core.PodCondition {
	status := core.ConditionFalse
	if holds {
		status = core.ConditionTrue
	}
	return core.PodCondition{Type: kind, Status: status, LastTransitionTime: now}
}

// pause waits; false if the life ended meanwhile.
func pause(ctx context.Context, long time.Duration) bool {
	select {
	case <-time.After(long):
		return true
	case <-ctx.Done():
		return false
	}
}
