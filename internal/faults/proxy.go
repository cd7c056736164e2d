// Package faults puts a proxy between a client and a server that a test can
// break: an API server (New) or any other (Over). Break says how every request
// is answered until Mend; CutWatches ends what streams; After acts when so many
// requests have come.
//
// The proxy is a real server on loopback, so the client may be another process,
// and resets, truncated bodies and refused connections are real ones.
package faults

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Proxy forwards requests to a server, while nothing is broken.
type Proxy struct {
	URL string

	forward http.Handler

	mu       sync.Mutex
	fault    Fault
	requests []string // "GET /api/…", watches as "WATCH /api/…"
	streams  map[*http.Request]func()
	at       int // the request that calls act; counted down
	act      func()
}

// New starts a proxy for an API server; it authenticates itself there as config
// does, and asks nobody who comes. It ends with the test.
func New(t testing.TB, config *rest.Config) *Proxy {
	t.Helper()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatalf("connecting the proxy: %v", err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatalf("connecting the proxy: %v", err)
	}
	reverse := httputil.NewSingleHostReverseProxy(target)
	reverse.Transport, reverse.FlushInterval = transport, -1
	reverse.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) } // as if nobody were between
	return Over(t, reverse)
}

// Over starts a proxy in front of a handler.
func Over(t testing.TB, server http.Handler) *Proxy {
	p := &Proxy{forward: server, streams: map[*http.Request]func(){}}
	s := httptest.NewUnstartedServer(p)
	s.Config.ErrorLog = silent
	s.Start()
	t.Cleanup(func() {
		p.CutWatches()
		s.CloseClientConnections()
		s.Close()
	})
	p.URL = s.URL
	return p
}

// Config is the configuration of a client that goes through the proxy.
func (p *Proxy) Config() *rest.Config { return &rest.Config{Host: p.URL, QPS: -1} }

// Kubeconfig writes it down for another process, and returns the file.
func (p *Proxy) Kubeconfig(t testing.TB) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["proxy"] = &clientcmdapi.Cluster{Server: p.URL}
	c.AuthInfos["proxy"] = &clientcmdapi.AuthInfo{}
	c.Contexts["proxy"] = &clientcmdapi.Context{Cluster: "proxy", AuthInfo: "proxy"}
	c.CurrentContext = "proxy"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	data, err := clientcmd.Write(*c)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatalf("writing the proxy's kubeconfig: %v", err)
	}
	return file
}

// Break has every request from now on answered by f.
func (p *Proxy) Break(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// Mend ends what Break began.
func (p *Proxy) Mend() { p.Break(nil) }

// CutWatches breaks every open watch, and says how many there were.
func (p *Proxy) CutWatches() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cut := range p.streams {
		cut() // its handler takes it out of the map
	}
	return len(p.streams)
}

// After calls act once, with the nth request from now that is no watch: before
// it is forwarded. 0 forgets what was asked for before.
func (p *Proxy) After(n int, act func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.act = n, act
}

// Quiet forgets the requests until now.
func (p *Proxy) Quiet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

// Requests are those since then, in their order of arrival.
func (p *Proxy) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// ServeHTTP forwards a request, or breaks it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	watch := r.URL.Query().Get("watch") != ""
	act, fault := p.arrived(r, watch)
	if act != nil {
		act()
	}
	if watch {
		ctx, done := p.stream(r)
		defer done()
		r = r.WithContext(ctx)
	}
	if fault == nil {
		p.forward.ServeHTTP(w, r)
		return
	}
	fault(w, r, p.forward)
}

func (p *Proxy) arrived(r *http.Request, watch bool) (act func(), fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	method := r.Method
	if watch {
		method = "WATCH"
	}
	p.requests = append(p.requests, method+" "+r.URL.Path)
	if !watch && p.at > 0 {
		if p.at--; p.at == 0 {
			act, p.act = p.act, nil
		}
	}
	return act, p.fault
}
