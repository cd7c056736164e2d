package gitrepo
import ("testing";"os";"context";"fmt";"path/filepath";"runtime";"time")
func TestZZ(t *testing.T) {
	for _, s := range servings {
	dir := bare(t, map[string]string{"log": ""})
	r := open(t, s.serve(t, dir))
	count := func() (int, int, int) {
		fds, _ := filepath.Glob("/proc/self/fd/*")
		tasks, _ := filepath.Glob("/proc/self/task/*/children")
		n := 0
		for _, f := range tasks { b, _ := os.ReadFile(f); for _, c := range b { if c == ' ' { n++ } } }
		return len(fds), n, runtime.NumGoroutine()
	}
	for i := range 60 {
		_, err := r.Update(context.Background(), "main", write("m", map[string]string{"x": fmt.Sprint(i)}))
		if err != nil { t.Fatal(err) }
		if _, err := r.Fetch(context.Background()); err != nil { t.Fatal(err) }
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*100*time.Microsecond)
		r.Fetch(ctx)
		cancel()
		if i % 20 == 0 { fmt.Println(count()) }
	}
	runtime.GC(); time.Sleep(200*time.Millisecond)
	fmt.Println(s.name); fmt.Println(count())
	}
}
