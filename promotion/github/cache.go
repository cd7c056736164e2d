package github

import (
	"bytes"
	"container/list"
	"io"
	"net/http"
	"sync"
)

// maxCache bounds the answers that are kept to ask only whether they have changed.
const maxCache = 8 << 20

// cache asks for what it has seen before with If-None-Match: an answer that is
// unchanged costs nothing of the rate limit. The least recently used go first.
type cache struct {
	base  http.RoundTripper
	limit int

	mu      sync.Mutex
	entries map[string]*list.Element // by URL
	recent  *list.List               // of *entry, the most recently used first
	size    int
}

type entry struct {
	url    string
	tag    string
	header http.Header
	body   []byte
}

func newCache(base http.RoundTripper) *cache {
	return &cache{base: base, limit: maxCache, entries: map[string]*list.Element{}, recent: list.New()}
}

func (c *cache) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.Header.Get("Range") != "" {
		return c.base.RoundTrip(req)
	}
	url := req.URL.String()
	known := c.get(url)
	if known != nil {
		req = req.Clone(req.Context())
		req.Header.Set("If-None-Match", known.tag)
	}
	res, err := c.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case res.StatusCode == http.StatusNotModified && known != nil:
		res.Body.Close()
		return known.answer(res), nil
	case res.StatusCode == http.StatusOK && res.Header.Get("ETag") != "":
		body, err := io.ReadAll(res.Body) // bounded by exchange
		if err != nil {
			return nil, err
		}
		c.put(&entry{url: url, tag: res.Header.Get("ETag"), header: res.Header.Clone(), body: body})
		res.Body = io.NopCloser(bytes.NewReader(body))
	}
	return res, nil
}

// answer is the entry as the answer to a request, with how the rate limit stands
// now.
func (e *entry) answer(now *http.Response) *http.Response {
	header := e.header.Clone()
	for name, values := range now.Header {
		header[name] = values
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: now.Proto, ProtoMajor: now.ProtoMajor, ProtoMinor: now.ProtoMinor,
		Header: header, Body: io.NopCloser(bytes.NewReader(e.body)), ContentLength: int64(len(e.body)), Request: now.Request,
	}
}

func (c *cache) get(url string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[url]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*entry)
}

func (c *cache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.entries[e.url])
	if len(e.body) > c.limit/4 {
		return // it would push out everything else
	}
	c.entries[e.url] = c.recent.PushFront(e)
	c.size += len(e.body)
	for c.size > c.limit {
		c.drop(c.recent.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	if e == nil {
		return
	}
	gone := c.recent.Remove(e).(*entry)
	delete(c.entries, gone.url)
	c.size -= len(gone.body)
}
