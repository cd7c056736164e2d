package gitrepo

import (
	"container/list"
	"sync"
)

// lru is a bounded cache, safe for concurrent use. Values must not be changed.
type lru[K comparable, V any] struct {
	mu      sync.Mutex
	limit   int
	size    int
	order   *list.List // front: used last
	entries map[K]*list.Element
}

type lruEntry[K comparable, V any] struct {
	key   K
	value V
	cost  int
}

func newLRU[K comparable, V any](limit int) *lru[K, V] {
	return &lru[K, V]{limit: limit, order: list.New(), entries: map[K]*list.Element{}}
}

func (c *lru[K, V]) get(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[K, V]).value, true
}

// put keeps value unless it alone would take a quarter of the cache.
func (c *lru[K, V]) put(key K, value V, cost int) {
	if cost > c.limit/4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[key]; ok {
		return
	}
	c.entries[key] = c.order.PushFront(&lruEntry[K, V]{key, value, cost})
	for c.size += cost; c.size > c.limit; {
		last := c.order.Back()
		e := last.Value.(*lruEntry[K, V])
		c.order.Remove(last)
		delete(c.entries, e.key)
		c.size -= e.cost
	}
}
