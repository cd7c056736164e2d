package reconciler

import "k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

type difference struct{ desired, live []*unstructured.Unstructured }
