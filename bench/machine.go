package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/sluice-dev/sluice/bench/figures"
)

// machine says where this runs, as far as it can be found out.
func machine() figures.Machine {
	m := figures.Machine{Processor: runtime.GOARCH, Cores: runtime.NumCPU(), System: runtime.GOOS}
	if model := field("/proc/cpuinfo", "model name"); model != "" {
		m.Processor = model
	}
	if kib, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " "); kib != "" {
		n, _ := strconv.ParseFloat(kib, 64)
		m.MemoryGiB = n / (1 << 20)
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(release))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(load), " ")
		m.Load, _ = strconv.ParseFloat(first, 64)
	}
	return m
}

// field is the first line of a file of the kernel's that has this name, without it.
func field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if before, after, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(after)
		}
	}
	return ""
}

// versions are of what is measured, and of what it is measured with and against.
func versions(ctx context.Context, bin string) map[string]string {
	out := map[string]string{"Go": strings.TrimPrefix(runtime.Version(), "go")}
	first := func(name, prefix string, args ...string) {
		text, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
		if err != nil {
			return
		}
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		out[name] = strings.TrimPrefix(line, prefix)
	}
	first("git", "git version ", "git", "version")
	first("etcd", "etcd Version: ", filepath.Join(bin, "etcd"), "--version")
	first("Kubernetes", "Kubernetes v", filepath.Join(bin, "kube-apiserver"), "--version")
	first("sluice", "", "git", "-C", filepath.Dir(bin), "describe", "--always", "--dirty")
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			switch module.Path {
			case "sigs.k8s.io/kustomize/api":
				out["Kustomize"] = strings.TrimPrefix(module.Version, "v")
			case "k8s.io/client-go":
				out["client-go"] = strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return out
}
