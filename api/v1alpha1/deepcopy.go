package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopyInto copies the Release into out.
func (in *Release) DeepCopyInto(out *Release) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Status.DeepCopyInto(&out.Status)
}

// DeepCopy copies the Release.
func (in *Release) DeepCopy() *Release {
	if in == nil {
		return nil
	}
	out := new(Release)
	in.DeepCopyInto(out)
	return out
}

// DeepCopyObject copies the Release.
func (in *Release) DeepCopyObject() runtime.Object {
	if c := in.DeepCopy(); c != nil {
		return c
	}
	return nil
}

// DeepCopyInto copies the status into out.
func (in *ReleaseStatus) DeepCopyInto(out *ReleaseStatus) {
	*out = *in
	if in.Attempt != nil {
		out.Attempt = &Attempt{Hash: in.Attempt.Hash, Since: *in.Attempt.Since.DeepCopy()}
	}
	if in.Conditions != nil {
		out.Conditions = make([]metav1.Condition, len(in.Conditions))
		for i := range in.Conditions {
			in.Conditions[i].DeepCopyInto(&out.Conditions[i])
		}
	}
	out.Tags = slices.Clone(in.Tags)
	out.Traffic = in.Traffic.DeepCopy()
	out.Served = slices.Clone(in.Served)
	if in.Inventory != nil {
		out.Inventory = &Inventory{Entries: slices.Clone(in.Inventory.Entries)}
		if in.Inventory.Before != nil {
			before := *in.Inventory.Before
			out.Inventory.Before = &before
		}
	}
	if in.Prune != nil {
		prune := *in.Prune
		out.Prune = &prune
	}
	if in.Refused != nil {
		refused := *in.Refused
		out.Refused = &refused
	}
	if in.Held != nil {
		held := *in.Held
		out.Held = &held
	}
}

// DeepCopy copies the status.
func (in *ReleaseStatus) DeepCopy() *ReleaseStatus {
	if in == nil {
		return nil
	}
	out := new(ReleaseStatus)
	in.DeepCopyInto(out)
	return out
}

// DeepCopy copies the traffic.
func (in *TrafficStatus) DeepCopy() *TrafficStatus {
	if in == nil {
		return nil
	}
	return &TrafficStatus{
		Weights:  slices.Clone(in.Weights),
		Mirrors:  slices.Clone(in.Mirrors),
		RoutedAt: in.RoutedAt.DeepCopy(),
	}
}

// DeepCopyInto copies the list into out.
func (in *ReleaseList) DeepCopyInto(out *ReleaseList) {
	*out = *in
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	if in.Items != nil {
		out.Items = make([]Release, len(in.Items))
		for i := range in.Items {
			in.Items[i].DeepCopyInto(&out.Items[i])
		}
	}
}

// DeepCopy copies the list.
func (in *ReleaseList) DeepCopy() *ReleaseList {
	if in == nil {
		return nil
	}
	out := new(ReleaseList)
	in.DeepCopyInto(out)
	return out
}

// DeepCopyObject copies the list.
func (in *ReleaseList) DeepCopyObject() runtime.Object {
	if c := in.DeepCopy(); c != nil {
		return c
	}
	return nil
}
