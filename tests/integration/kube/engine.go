package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// engines are the model servers of all pods, by the pod's address; they listen in memory and take no port.
type engines struct {
	mutex sync.Mutex
	by    map[string]*engine
}

func newEngines() *engines { return &engines{by: map[string]*engine{}} }

// start lets a pod's engine answer at that address.
func (all *engines) start(ip string) {
	fresh := &engine{accepted: make(chan net.Conn), closed: make(chan struct{})}
	fresh.server = &http.Server{Handler: fresh.handler()}
	all.mutex.Lock()
	all.by[ip] = fresh
	all.mutex.Unlock()
	go func() { _ = fresh.server.Serve(fresh) }()
}

// stop ends it, and every request in it.
func (all *engines) stop(ip string) {
	all.mutex.Lock()
	old := all.by[ip]
	delete(all.by, ip)
	all.mutex.Unlock()
	if old != nil {
		_ = old.server.Close()
	}
}

// dial is how the API server's proxy reaches a pod; anything else is reached as usual.
func (all *engines) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !isPodIP(host) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	all.mutex.Lock()
	found := all.by[host]
	all.mutex.Unlock()
	if found == nil {
		return nil, fmt.Errorf("connection refused: no engine at %s", address)
	}
	ours, theirs := net.Pipe()
	select {
	case found.accepted <- theirs:
		return ours, nil
	case <-found.closed:
		return nil, fmt.Errorf("connection refused: the engine at %s ended", address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// engine is a listener without a port, and what serves it.
type engine struct {
	server   *http.Server
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (one *engine) Accept() (net.Conn, error) {
	select {
	case each := <-one.accepted:
		return each, nil
	case <-one.closed:
		return nil, net.ErrClosed
	}
}

func (one *engine) Close() error {
	one.once.Do(func() { close(one.closed) })
	return nil
}

func (one *engine) Addr() net.Addr { return &net.IPAddr{} }

// handler answers what an OpenAI server that has loaded its model answers, as far as a warm-up needs it.
func (one *engine) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(answer http.ResponseWriter, _ *http.Request) {})
	mux.HandleFunc("POST /v1/chat/completions", func(answer http.ResponseWriter, request *http.Request) {
		var asked struct {
			Model    string            `json:"model"`
			Messages []json.RawMessage `json:"messages"`
		}
		if err := json.NewDecoder(request.Body).Decode(&asked); err != nil || asked.Model == "" || len(asked.Messages) == 0 {
			http.Error(answer, `{"error": {"message": "model and messages are needed"}}`, http.StatusBadRequest)
			return
		}
		message := map[string]any{"role": "assistant", "content": "Hello."}
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(map[string]any{
			"object":  "chat.completion",
			"model":   asked.Model,
			"choices": []any{map[string]any{"index": 0, "message": message, "finish_reason": "stop"}},
		})
	})
	return mux
}
