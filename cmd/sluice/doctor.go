package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sluice-dev/sluice/deploy/manifests"
	"github.com/sluice-dev/sluice/reconciler"
	"github.com/sluice-dev/sluice/reconciler/cluster"
)

// Outcomes of a check.
const (
	checkOK      = "ok"
	checkFailed  = "failed"
	checkSkipped = "skipped" // it could not be made; says nothing
)

// diagnosis is the outcome of one check.
type diagnosis struct {
	Check   string `json:"check"`
	Subject string `json:"subject,omitempty"`
	Status  string `json:"status"`
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

type doctorOptions struct {
	namespace    string
	environments []string
	accounts     []string
	writes       bool // to the repository
}

// doctor makes the checks. What a check finds out, later ones use; what they lack is
// skipped.
type doctor struct {
	*app
	o        doctorOptions
	account  string // whose rights are asked for; "": this process's own
	home     string // namespace of the Lease; "" when there is none
	settled  bool   // what is to be served is known
	keysHere bool   // keys were given to this process
	found    []diagnosis

	config  *rest.Config // nil: there is no cluster to ask
	client  *cluster.Client
	dynamic dynamic.Interface

	serves []reconciler.EnvironmentConfig
	view   *view // nil: the repository cannot be read
	needs  map[string]*needs
}

func newDoctorCommand(a *app) *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find what keeps a controller from working, and say what to do",
		Long: `Looks at everything that a controller needs: that the repository can be read
(and written to, where it is to be), that the project loads and renders, that
keys open every encrypted file, that the cluster answers, has the definition of
Release in this version and every kind that the repository uses, that the
controller and its service accounts have their rights, that gateways can do what
the traffic asks for, that clocks agree, and that no other controller keeps the
same environments. Nothing is changed.

Without --environment, it examines what "sluice install" has installed in
--namespace, and asks for the rights of that controller, with the repository's
and the age keys' credentials of this process. With --environment, it examines
whether a controller could work with the flags that are given and by the rights
of this process.

Ends with exit code 3 when a check fails.`,
		Example: `  sluice doctor
  sluice doctor --environment production=shop-production --service-account production=applier --age-key-file production.agekey`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.runDoctor(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.namespace, "namespace", manifests.DefaultHome, "`namespace` of the installed controller")
	f.StringArrayVar(&o.environments, "environment", nil, "examine this environment, `NAME=NAMESPACE` (repeatable)")
	f.StringArrayVar(&o.accounts, "service-account", nil, "service account to act as in an environment, `ENVIRONMENT=NAME` (repeatable)")
	f.BoolVar(&o.writes, "promote", false, "the controller is to write to the repository")
	return c
}

func (a *app) runDoctor(ctx context.Context, o doctorOptions) error {
	if len(o.environments) > 0 && !fixedNamespaces(o.environments) {
		return withHint(usagef("an environment is examined in the namespace that the controller is given"), "name both: --environment NAME=NAMESPACE")
	}
	d := &doctor{app: a, o: o, settled: len(o.environments) > 0, keysHere: len(a.keyArguments()) > 0, needs: map[string]*needs{}}
	d.examineCluster(ctx)
	if !d.settled {
		d.examineInstallation(ctx)
	}
	if d.settled {
		var err error
		if d.serves, err = serve(nil, d.o.environments); err == nil {
			err = actAs(d.serves, d.o.accounts)
		}
		if err != nil {
			return err
		}
		d.examineRepository(ctx)
		defer func() {
			if d.view != nil {
				d.view.Close()
			}
		}()
		if d.config != nil {
			d.examineKinds()
			d.examineRights(ctx)
			d.examineGateways(ctx)
			d.examineKeeping(ctx)
		}
	}
	d.examineClocks(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.report()
}

// ok, failed and skipped note the outcome of a check.
func (d *doctor) ok(check, subject, format string, args ...any) {
	d.found = append(d.found, diagnosis{check, subject, checkOK, fmt.Sprintf(format, args...), ""})
}

func (d *doctor) failed(check, subject string, err error) {
	remedy := strings.Join(hints(err), "; ")
	d.found = append(d.found, diagnosis{check, subject, checkFailed, err.Error(), cmp.Or(remedy, remedies[check])})
}

// remedies say what to do about a failure that does not say it itself.
var remedies = map[string]string{
	"cluster":    "check --kubeconfig and --context, and that the API server can be reached from here: kubectl get --raw /readyz",
	"controller": "see how it is: kubectl describe deployments -A -l app.kubernetes.io/name=sluice; or install it again: sluice install",
	"secrets":    "what each Secret must have stands in: sluice install --help",
	"definition": "install it again: sluice install --crds",
	"kinds":      "install the CustomResourceDefinitions, or correct apiVersion and kind",
	"gateways":   "see what its controller says of it: kubectl describe gateways,gatewayclasses -A",
	"releases":   "see what they say: kubectl get releases -A",
	"clock":      "have both machines keep time, by chrony or systemd-timesyncd",
	"repository": "see whether git ls-remote reads it with the same credentials; sluice controller --help says which there are",
	"project":    "sluice check says all that is wrong with the repository",
	"keys":       "sluice secrets check says which keys each file wants",
	"rights":     "give it these rights by a Role; sluice install prints those of the controller and a usual one for the repository",
}

func (d *doctor) skipped(check, subject, format string, args ...any) {
	d.found = append(d.found, diagnosis{check, subject, checkSkipped, fmt.Sprintf(format, args...), ""})
}

// report prints what was found.
func (d *doctor) report() error {
	failures := 0
	for _, f := range d.found {
		if f.Status == checkFailed {
			failures++
		}
	}
	err := d.print(d.found, func(t *table) {
		t.header("CHECK", "SUBJECT", "STATUS")
		for _, f := range d.found {
			t.row(f.Check, f.Subject, f.Status)
		}
		for _, f := range d.found {
			if f.Status == checkOK && d.output != "wide" {
				continue
			}
			t.line(printable(strings.TrimSpace(f.Check+" "+f.Subject) + ": " + f.Message))
			if f.Remedy != "" {
				t.line(printable("  hint: " + f.Remedy))
			}
		}
	})
	if err == nil && failures > 0 {
		err = codedError{fmt.Errorf("%d of %d checks failed", failures, len(d.found)), exitFindings}
	}
	return err
}

// examineCluster finds out whether there is a cluster that answers.
func (d *doctor) examineCluster(ctx context.Context) {
	config, err := d.restConfig()
	if err != nil {
		d.failed("cluster", "", err)
		return
	}
	client, err := cluster.New(config)
	if err == nil {
		err = client.Ping(ctx)
	}
	if err == nil {
		d.dynamic, err = dynamic.NewForConfig(config)
	}
	if err != nil {
		d.failed("cluster", "", err)
		return
	}
	d.config, d.client = config, client
	d.ok("cluster", client.Server(), "the API server answers")
	d.examineDefinition(ctx)
}

// examineInstallation takes from the installed controller what it is to do, and looks
// whether it runs.
func (d *doctor) examineInstallation(ctx context.Context) {
	subject := "Deployment " + d.o.namespace + "/" + manifests.Controller
	if d.config == nil {
		d.skipped("controller", subject, "there is no cluster to ask")
		return
	}
	deployment, err := d.dynamic.Resource(deploymentResource).Namespace(d.o.namespace).Get(ctx, manifests.Controller, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		err = withHint(fmt.Errorf("it does not exist"), "install it: sluice install --environment NAME=NAMESPACE --apply; or examine a controller that runs elsewhere: sluice doctor --environment NAME=NAMESPACE")
	}
	if err != nil {
		d.failed("controller", subject, err)
		return
	}
	if err := d.adopt(deployment); err != nil {
		d.failed("controller", subject, err)
		return
	}
	d.settled = true
	in := &installation{d.app, d.dynamic}
	if ready, text := available(deployment); ready {
		d.ok("controller", subject, "%s", text)
	} else {
		why := append([]string{text}, in.waiting(ctx, d.o.namespace)...)
		d.failed("controller", subject, withHint(fmt.Errorf("%s", strings.Join(why, "; ")), "kubectl logs -n %s deployment/%s; kubectl describe pods -n %s", d.o.namespace, manifests.Controller, d.o.namespace))
	}
	d.examineSecrets(ctx, deployment)
}

// adopt takes the flags of an installed controller.
func (d *doctor) adopt(deployment *unstructured.Unstructured) error {
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	var args []string
	for _, c := range containers {
		if c, _ := c.(map[string]any); c["name"] == "controller" {
			args, _, _ = unstructured.NestedStringSlice(c, "args")
		}
	}
	silent := &app{process: process{Getenv: func(string) string { return "" }}}
	c, rest, err := newRootCommand(silent).Find(args)
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err != nil || c.Name() != "controller" {
		return withHint(fmt.Errorf("its arguments are not those of a controller: %v", err), "install it again with this version: sluice install --environment NAME=NAMESPACE --apply")
	}
	f := c.Flags()
	d.o.environments, _ = f.GetStringArray("environment")
	d.o.accounts, _ = f.GetStringArray("service-account")
	d.o.writes = slices.ContainsFunc([]string{"promote", "announce", "report-sign-key"}, f.Changed)
	if !fixedNamespaces(d.o.environments) || len(d.o.environments) == 0 {
		return withHint(fmt.Errorf("its environments are not given with their namespaces"), "sluice install does that")
	}
	account, _, _ := unstructured.NestedString(deployment.Object, "spec", "template", "spec", "serviceAccountName")
	d.account, d.home = "system:serviceaccount:"+deployment.GetNamespace()+":"+account, deployment.GetNamespace()
	if d.repo == "" {
		d.repo = silent.repo
	}
	d.branch, d.project = silent.branch, silent.project
	if silent.forge.kind != forgeAuto {
		d.forge = silent.forge
	}
	return nil
}

// examineSecrets looks for what the pods of the controller mount.
func (d *doctor) examineSecrets(ctx context.Context, deployment *unstructured.Unstructured) {
	for _, s := range secretsOf(deployment) {
		subject := "Secret " + d.o.namespace + "/" + s.name
		present, err := d.dynamic.Resource(secretResource).Namespace(d.o.namespace).Get(ctx, s.name, metav1.GetOptions{})
		if apierrors.IsForbidden(err) {
			d.skipped("secrets", subject, "it may not be read: %v", err)
			continue
		}
		if apierrors.IsNotFound(err) {
			err = withHint(fmt.Errorf("it does not exist, and the controller's pods wait for it"), "kubectl create secret generic %s -n %s --from-file=…", s.name, d.o.namespace)
		}
		if err != nil {
			d.failed("secrets", subject, err)
			continue
		}
		data, _, _ := unstructured.NestedMap(present.Object, "data")
		if missing := slices.DeleteFunc(slices.Clone(s.keys), func(key string) bool { return data[key] != nil }); len(missing) > 0 {
			d.failed("secrets", subject, withHint(fmt.Errorf("it has no %s", strings.Join(missing, ", ")), "the keys that each Secret must have stand in: sluice install --help"))
			continue
		}
		d.ok("secrets", subject, "it is there")
	}
}

// mountedSecret is a Secret that pods need, and keys that it must have.
type mountedSecret struct {
	name string
	keys []string
}

// secretsOf are the Secrets of a Deployment, and the keys that its variables and the
// files in its arguments name.
func secretsOf(deployment *unstructured.Unstructured) (list []mountedSecret) {
	add := func(name string, keys ...string) {
		i := slices.IndexFunc(list, func(s mountedSecret) bool { return s.name == name })
		if i < 0 {
			list = append(list, mountedSecret{name: name})
			i = len(list) - 1
		}
		for _, key := range keys {
			if !slices.Contains(list[i].keys, key) {
				list[i].keys = append(list[i].keys, key)
			}
		}
	}
	pod, _, _ := unstructured.NestedMap(deployment.Object, "spec", "template", "spec")
	containers, _, _ := unstructured.NestedSlice(pod, "containers")
	volumes, _, _ := unstructured.NestedSlice(pod, "volumes")
	for _, c := range containers {
		c, _ := c.(map[string]any)
		files, _, _ := unstructured.NestedStringSlice(c, "args")
		env, _, _ := unstructured.NestedSlice(c, "env")
		for _, e := range env {
			e, _ := e.(map[string]any)
			if value, _ := e["value"].(string); value != "" {
				files = append(files, value)
			}
			if ref, found, _ := unstructured.NestedMap(e, "valueFrom", "secretKeyRef"); found && ref["optional"] != true {
				add(fmt.Sprint(ref["name"]), fmt.Sprint(ref["key"]))
			}
		}
		mounts, _, _ := unstructured.NestedSlice(c, "volumeMounts")
		for _, m := range mounts {
			m, _ := m.(map[string]any)
			if name := secretOf(volumes, m["name"]); name != "" {
				add(name, keysBelow(fmt.Sprint(m["mountPath"]), files)...)
			}
		}
	}
	return list
}

// secretOf is the Secret of a volume; "" when it is of none.
func secretOf(volumes []any, volume any) string {
	for _, v := range volumes {
		v, _ := v.(map[string]any)
		if v["name"] == volume {
			name, _, _ := unstructured.NestedString(v, "secret", "secretName")
			return name
		}
	}
	return ""
}

// keysBelow are the names of files in a folder that texts end with.
func keysBelow(dir string, texts []string) (names []string) {
	for _, text := range texts {
		if _, name, found := strings.Cut(text, dir+"/"); found && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}
