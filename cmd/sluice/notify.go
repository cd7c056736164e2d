package main

import (
	"fmt"
	"net"
	"net/http"
	"time"
)

// notifyServer listens on a loopback address; a POST there makes the
// controller look at the repository now. It reads nothing of the request and
// tells nothing in its answer, so all that anyone can do with it is cause a
// fetch, and floods are coalesced into one. A controller that stands by takes them
// as well: what it was told while it did is one look more when it leads.
type notifyServer struct {
	listener net.Listener
	server   *http.Server
	posted   chan struct{}
}

// loopback refuses an address that others can reach, for what knows no authentication.
func loopback(flag, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return withHint(usagef("%s %q is not HOST:PORT", flag, address), "for example %s 127.0.0.1:9292", flag)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return withHint(usagef("%s %s is not a loopback address: it takes no authentication", flag, address), "use 127.0.0.1:PORT or [::1]:PORT")
	}
	return nil
}

// newNotifyServer listens on address, whose host must be a loopback address.
func newNotifyServer(address string) (*notifyServer, error) {
	if err := loopback("--notify-address", address); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on the notify address: %w", err)
	}
	n := &notifyServer{listener: listener, posted: make(chan struct{}, 1)}
	n.server = &http.Server{
		Handler: http.HandlerFunc(n.handle), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	return n, nil
}

func (n *notifyServer) handle(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	select {
	case n.posted <- struct{}{}:
	default: // one is waiting already, and it will see this push too
	}
	w.WriteHeader(http.StatusAccepted)
}
