package faults

import (
	"context"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"
)

// Fault answers a request instead of the server, which is next.
type Fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// silent is for servers whose handlers abort on purpose.
var silent = log.New(io.Discard, "", 0)

// Status answers with a code; retryAfter is in seconds, 0 for none.
func Status(code, retryAfter int) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		if retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		}
		http.Error(w, http.StatusText(code), code)
	}
}

// Reset closes the connection with a reset and no answer.
func Reset(w http.ResponseWriter, _ *http.Request, _ http.Handler) { reset(w) }

// Lost lets a request arrive and resets the connection instead of answering: who
// asked cannot know whether it was done.
func Lost(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if Watch(r) {
		next.ServeHTTP(w, r) // has no end that could be lost
		return
	}
	next.ServeHTTP(httptest.NewRecorder(), r)
	reset(w)
}

// Truncate sends only a part of the answer's body, then resets the connection.
func Truncate(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if Watch(r) {
		next.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	next.ServeHTTP(answer, r)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(answer.Body.Len()))
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	reset(w)
}

// Garbage answers 200 with what is no answer to anything.
func Garbage(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "<html>\x00{]")
}

// Slow takes its time before it forwards.
func Slow(wait time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-time.After(wait):
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// Sometimes breaks a share of the requests, each by one of the faults.
func Sometimes(share float64, faults ...Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if rand.Float64() < share {
			faults[rand.IntN(len(faults))](w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// Only breaks the requests that are chosen.
func Only(chosen func(*http.Request) bool, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if chosen(r) {
			f(w, r, next)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// First breaks the first request for each path and forwards the rest.
func First(f Fault) Fault {
	var seen sync.Map
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if _, again := seen.LoadOrStore(r.URL.Path, true); again {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, next)
	}
}

// Watch chooses watches.
func Watch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

// reset closes the connection under an answer with a TCP reset.
func reset(w http.ResponseWriter) {
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the answer has begun
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = connection.Close()
}

// stream is the context of a watch that CutWatches ends.
func (p *Proxy) stream(r *http.Request) (context.Context, func()) {
	ctx, cut := context.WithCancel(r.Context())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[r] = cut
	return ctx, func() {
		cut()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.streams, r)
	}
}
