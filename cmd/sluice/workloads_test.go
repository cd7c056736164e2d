package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluice-dev/sluice/reconciler/inventory"
)

func TestMadeBy(t *testing.T) {
	for _, c := range []struct {
		by, kind, name string
		want           bool
	}{
		{"Deployment", "Pod", "api-6f8b7c9d5-x2x4z", true},
		{"Deployment", "ReplicaSet", "api-6f8b7c9d5", true},
		{"Deployment", "Pod", "api-gateway-6f8b7c9d5-x2x4z", false},
		{"Deployment", "Pod", "api-blue-6f8b7c9d5-x2x4z", false},
		{"Deployment", "Pod", "apis-6f8b7c9d5-x2x4z", false},
		{"Deployment", "Service", "api-6f8b7c9d5", false},
		{"StatefulSet", "Pod", "api-0", true},
		{"DaemonSet", "Pod", "api-x2x4z", true},
		{"CronJob", "Job", "api-29384756", true},
		{"CronJob", "Pod", "api-29384756-x2x4z", true},
		{"Job", "Pod", "api-x2x4z", true},
		{"Service", "Pod", "api-x2x4z", false},
	} {
		assert.Equal(t, c.want, madeBy(inventory.ID{Name: "api", Kind: c.by}, c.kind, c.name), "%s %s %s", c.by, c.kind, c.name)
	}
}
