package testcluster_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluice-dev/sluice/internal/testcluster"
)

func TestClusterAnswersAndHasNamespaces(t *testing.T) {
	client, err := kubernetes.NewForConfig(testcluster.Start(t))
	require.NoError(t, err)
	first, second := testcluster.Namespace(t), testcluster.Namespace(t)
	require.NotEqual(t, first, second)
	_, err = client.CoreV1().Namespaces().Get(context.Background(), first, metav1.GetOptions{})
	require.NoError(t, err)
	resources, err := client.Discovery().ServerResourcesForGroupVersion("sluice.dev/v1alpha1")
	require.NoError(t, err)
	require.NotEmpty(t, resources.APIResources)
}
