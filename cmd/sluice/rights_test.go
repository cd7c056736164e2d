package main

import (
	"context"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// cmdSignIn writes a kubeconfig with which a program is a service account: signin
// NAMESPACE/NAME FILE.
func cmdSignIn(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signin NAMESPACE/NAME FILE")
	}
	config, err := clientcmd.LoadFromFile(ts.Getenv("KUBECONFIG"))
	ts.Check(err)
	namespace, name, _ := strings.Cut(args[0], "/")
	token, err := administrator(ts).CoreV1().ServiceAccounts(namespace).CreateToken(context.Background(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	ts.Check(err)
	for _, user := range config.AuthInfos {
		user.ClientCertificate, user.ClientCertificateData, user.ClientKey, user.ClientKeyData = "", nil, "", nil
		user.Token, user.Username, user.Password = token.Status.Token, "", ""
	}
	data, err := clientcmd.Write(*config)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
}

// cmdSecret makes a Secret with one key, and its namespace: secret NAMESPACE/NAME KEY.
func cmdSecret(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: secret NAMESPACE/NAME KEY")
	}
	namespace, name, _ := strings.Cut(args[0], "/")
	core := administrator(ts).CoreV1()
	_, err := core.Namespaces().Create(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		ts.Check(err)
	}
	_, err = core.Secrets(namespace).Create(context.Background(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{args[1]: "value"}}, metav1.CreateOptions{})
	ts.Check(err)
}

func administrator(ts *testscript.TestScript) *kubernetes.Clientset {
	config, err := clientcmd.BuildConfigFromFlags("", ts.Getenv("KUBECONFIG"))
	ts.Check(err)
	client, err := kubernetes.NewForConfig(config)
	ts.Check(err)
	return client
}

// cmdCan asks the API server whether a service account may do something: can
// NAMESPACE/NAME VERB RESOURCE[.GROUP][/NAME] [NAMESPACE].
func cmdCan(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: [!] can NAMESPACE/NAME VERB RESOURCE[.GROUP][/NAME] [NAMESPACE]")
	}
	resource, name, _ := strings.Cut(args[2], "/")
	parsed := schema.ParseGroupResource(resource)
	asked := authorizationv1.ResourceAttributes{Verb: args[1], Group: parsed.Group, Resource: parsed.Resource, Name: name}
	if len(args) == 4 {
		asked.Namespace = args[3]
	}
	review, err := administrator(ts).AuthorizationV1().SubjectAccessReviews().Create(context.Background(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: "system:serviceaccount:" + strings.ReplaceAll(args[0], "/", ":"), Groups: []string{"system:serviceaccounts", "system:authenticated"}, ResourceAttributes: &asked},
	}, metav1.CreateOptions{})
	ts.Check(err)
	if review.Status.Allowed == neg {
		ts.Fatalf("%s: %v: allowed is %v: %s", args[0], args[1:], review.Status.Allowed, review.Status.Reason)
	}
}
