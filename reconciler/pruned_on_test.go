package reconciler_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/reconciler"
)

// A commit that comes in while a release is deleting what the one before left out
// ends that at once: what it wants again, here or in another release, is the object
// that there was.
func TestCommitEndsDeletionUnderWay(t *testing.T) {
	const configs = "environments/production/api/config.yaml"
	for to, newer := range map[string]func(before, after files) files{
		"api": func(before, _ files) files { return before },
		"web": func(before, after files) files {
			return after.with(files{"environments/production/web/config.yaml": strings.Replace(before[configs], after[configs], "", 1)})
		},
	} {
		t.Run("they are "+to+"'s again", func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			looks, l, once := observed{f.branch, make(chan struct{})}, &line{}, sync.Once{}
			before, after := two(f.namespace).shared(100).configured("api", 4), two(f.namespace).shared(100).configured("api", 1)
			l.instead = func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
				if r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/configmaps/api-1") {
					once.Do(func() {
						f.branch.push(newer(before, after))
						for range 3 { // one may have begun before the push, and one ends with the next
							<-looks.looks
						}
					})
				}
				return next.RoundTrip(r)
			}
			f.engine = f.newEngine(func(c *reconciler.Config) { c.REST, c.Source = l.config(c.REST), looks })
			// present are the objects' identities once all are a release's and both are ready.
			present := func(release string) map[string]types.UID {
				uids := map[string]types.UID{}
				for _, name := range []string{"api-1", "api-2", "api-3"} {
					if o := f.get("ConfigMap", name); o != nil && o.GetLabels()[v1alpha1.LabelRelease] == release {
						uids[name] = o.GetUID()
					}
				}
				if len(uids) < 3 || !f.release("api").Ready() || !f.release("web").Ready() {
					return nil
				}
				return uids
			}
			var old, now map[string]types.UID
			f.branch.push(before)
			f.run()
			f.eventually("they are there", func() bool { old = present("api"); return old != nil })
			f.branch.push(after)
			f.eventually("the newer commit is applied", func() bool { now = present(to); return now != nil && now["api-1"] != old["api-1"] })
			for _, name := range []string{"api-2", "api-3"} {
				assert.Equal(t, old[name], now[name], "%s was not deleted", name)
			}
		})
	}
}
