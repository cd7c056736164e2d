package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
)

// podGroup are pods of a deployment that run one digest of the component.
type podGroup struct {
	Tag    string `json:"tag,omitempty"`
	Build  string `json:"build"`
	Digest string `json:"digest"`
	Pods   int    `json:"pods"`
	Ready  int    `json:"ready"`
}

// podGroups counts the pods of workloads by what they run of the component, whose
// containers are told by the digests that it is known to have. Pods that end, or have
// ended, run nothing, and Jobs serve nothing.
func podGroups(workloads []workload, digests []string) (groups []podGroup) {
	for _, w := range workloads {
		if w.id.Group == "batch" {
			continue
		}
		carriers := w.carriers(digests)
		for i := range w.pods {
			pod := &w.pods[i]
			digest := carried(pod, carriers)
			if digest == "" || pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
				continue
			}
			at := slices.IndexFunc(groups, func(g podGroup) bool { return g.Tag == w.tag && g.Digest == digest })
			if at < 0 {
				at = len(groups)
				groups = append(groups, podGroup{Tag: w.tag, Build: buildID(digest), Digest: digest})
			}
			groups[at].Pods++
			if podReady(pod) {
				groups[at].Ready++
			}
		}
	}
	slices.SortFunc(groups, func(a, b podGroup) int {
		return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Digest, b.Digest))
	})
	return groups
}

// carried is the digest that a pod runs in the first of some containers that has one.
func carried(pod *corev1.Pod, containers []string) string {
	for _, c := range pod.Spec.Containers {
		if digest := imageDigest.FindString(c.Image); digest != "" && slices.Contains(containers, c.Name) {
			return digest
		}
	}
	return ""
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// digests are those that the component is known to have in the environment.
func (r *releaseStatus) digests() (digests []string) {
	for _, s := range r.Running {
		digests = append(digests, s.Digest)
	}
	for _, s := range r.Declared {
		digests = append(digests, s.Digest)
	}
	return slices.DeleteFunc(digests, func(d string) bool { return d == "" })
}

// others are the pods that run something else than was applied to their deployment.
func (r *releaseStatus) others() []podGroup {
	return slices.DeleteFunc(slices.Clone(r.Pods), func(g podGroup) bool {
		return slices.ContainsFunc(r.Running, func(s runningState) bool { return s.Tag == g.Tag && s.Digest == g.Digest })
	})
}

// othersText says which they are, "" of none.
func othersText(groups []podGroup) string {
	texts := make([]string, len(groups))
	for i, g := range groups {
		texts[i] = fmt.Sprintf("%s run %s", countOf(g.Pods, "pod"), g.Build)
		if g.Pods == 1 {
			texts[i] = "1 pod runs " + g.Build
		}
		if g.Tag != "" {
			texts[i] = g.Tag + ": " + texts[i]
		}
	}
	return strings.Join(texts, ", ")
}

// podReads bounds how many releases are asked for their pods at a time.
const podReads = 8

// pods adds what the pods of the releases of an environment run. Those of a release that
// is ready run what was applied, which is what ready means, and are not asked. Where they
// cannot be read the rows stay as they are, and the error says why.
func (s *statusSides) pods(ctx context.Context, env statusEnvironment, rows []releaseStatus) error {
	reported := s.of(env)
	var reads errgroup.Group
	reads.SetLimit(podReads)
	for i := range rows {
		rel := reported[rows[i].Release]
		if rel == nil || rel.Ready() {
			continue
		}
		reads.Go(func() error {
			workloads, err := s.releases.workloads(ctx, rel, "")
			if err != nil {
				return err
			}
			rows[i].Pods = podGroups(workloads, rows[i].digests())
			return nil
		})
	}
	return reads.Wait()
}
