package webhook

import (
	"container/list"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"
)

const (
	maxDeliveries = 4096
	// repetition is for how long the same body, where no id tells deliveries
	// apart, is the same delivery.
	repetition = time.Minute
)

// deliveryHeaders carry an id that a forge gives each delivery, and gives again
// when it sends it again. X-Sluice-Delivery is for senders of one's own.
var deliveryHeaders = []string{"X-GitHub-Delivery", "X-Forgejo-Delivery", "X-Gitea-Delivery", "X-Sluice-Delivery"}

// deliveries remembers what was delivered: the most recent ones, by a hash, so
// that its size does not depend on what is sent.
//
// The id is not signed. Whoever records a request and sends it again under
// another id causes one look more, no worse than what Triggers makes of floods.
type deliveries struct {
	now func() time.Time

	mu     sync.Mutex
	byKey  map[[sha256.Size]byte]*list.Element
	recent list.List // of delivery, the newest in front
}

type delivery struct {
	key [sha256.Size]byte
	at  time.Time
}

func newDeliveries(now func() time.Time) *deliveries {
	return &deliveries{now: now, byKey: map[[sha256.Size]byte]*list.Element{}}
}

// first reports whether an authentic delivery is seen for the first time.
func (d *deliveries) first(header http.Header, body []byte) bool {
	key, forever := identify(header, body)
	now := d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.byKey[key]; ok {
		if seen := e.Value.(delivery); forever || now.Sub(seen.at) < repetition {
			return false
		}
		d.recent.Remove(e)
	}
	d.byKey[key] = d.recent.PushFront(delivery{key, now})
	if d.recent.Len() > maxDeliveries {
		oldest := d.recent.Remove(d.recent.Back()).(delivery)
		delete(d.byKey, oldest.key)
	}
	return true
}

// identify returns what makes a delivery the same; forever says that it is an
// id, which is not used again.
func identify(header http.Header, body []byte) (key [sha256.Size]byte, forever bool) {
	for _, name := range deliveryHeaders {
		if id := header.Get(name); id != "" {
			return sha256.Sum256([]byte("id\x00" + id)), true
		}
	}
	h := sha256.New()
	h.Write([]byte("body\x00" + eventName(header) + "\x00"))
	h.Write(body)
	return [sha256.Size]byte(h.Sum(nil)), false
}
