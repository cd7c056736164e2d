// Package manifests writes what Sluice needs in a cluster as plain YAML with
// comments: the controller, its rights, and the service account of each environment.
// Fill Options and call Documents. The same, for an example, stands in deploy/ as a
// Kustomize base. The package only makes bytes; it never applies them.
package manifests

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sluice-dev/sluice/deploy/crds"
)

// Label is on every object that goes when Sluice is uninstalled, and its value is the
// namespace of the controller. The namespaces of environments do not have it.
const Label = "sluice.dev/installation"

// Names of what is installed.
const (
	Controller     = "sluice-controller" // Deployment, Service, ServiceAccount, Lease
	DefaultApplier = "sluice-applier"    // ServiceAccount of an environment
	DefaultHome    = "sluice-system"
)

// Keys of the Secrets that are mounted.
const (
	AgeKey     = "age.agekey"
	WebhookKey = "secret"
)

const secretsDir = "/etc/sluice/"

// Ports of the controller.
const (
	MetricsPort = 8080
	HealthPort  = 8081
	WebhookPort = 9393
)

// Options say what is installed.
type Options struct {
	Namespace  string // of the controller, and of nothing else
	Image      string
	Replicas   int
	Repository string   // URL; without credentials
	Flags      []string // further ones of the controller, such as --branch=main

	Environments []Environment

	// ForgeToken is the variable that names the file with the token where it is for
	// the forge, and not for Git alone; "" where it is.
	ForgeToken string

	// Names of Secrets in Namespace; "" for none.
	GitSecret       string   // token, and username; or ssh-privatekey and known_hosts
	CASecret        string   // ca.crt: certificate authorities of repository and forge
	GitHubAppSecret string   // id, installation and key.pem
	WebhookSecret   string   // WebhookKey
	Mounts          []string // each at /etc/sluice/secrets/NAME

	EgressPorts []int // beside those of DNS, the API server and the repository
}

// Environment is one that the controller serves.
type Environment struct {
	Name      string
	Namespace string
	Account   string // service account that is impersonated
	AgeSecret string // with AgeKey; "" for none
}

// Document is a file of manifests.
type Document struct {
	Path string // in deploy/
	YAML []byte
}

//go:embed templates
var files embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"quote": quote}).ParseFS(files, "templates/*.yaml"))

// quote is a text as YAML that is nothing but this text.
func quote(text string) (string, error) {
	out, err := json.Marshal(text)
	return string(out), err
}

// Documents are the manifests in the order in which they are applied.
func (o Options) Documents() ([]Document, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	docs := []Document{{"controller/namespace.yaml", nil}, {"crds/sluice.dev_releases.yaml", crds.Release}, {"controller/rbac.yaml", nil}}
	var err error
	for i := range docs {
		if docs[i].YAML == nil {
			if docs[i].YAML, err = execute(strings.TrimPrefix(docs[i].Path, "controller/"), o); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range o.Environments {
		text, err := execute("environment.yaml", struct {
			Environment
			Home string
		}{e, o.Namespace})
		if err != nil {
			return nil, err
		}
		docs = append(docs, Document{"environments/" + e.Name + ".yaml", text})
	}
	for _, name := range []string{"networkpolicy.yaml", "service.yaml", "poddisruptionbudget.yaml", "deployment.yaml"} {
		text, err := execute(name, o)
		if err != nil {
			return nil, err
		}
		docs = append(docs, Document{"controller/" + name, text})
	}
	return docs, nil
}

func execute(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, data); err != nil {
		return nil, fmt.Errorf("writing %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// Args are those of the controller's container.
func (o Options) Args() []string {
	args := []string{"controller", "--repo=" + o.Repository}
	for _, e := range o.Environments {
		args = append(args, "--environment="+e.Name+"="+e.Namespace, "--service-account="+e.Name+"="+e.Account)
		if e.AgeSecret != "" {
			args = append(args, "--age-key-file="+e.Name+"="+e.AgeDir()+"/"+AgeKey)
		}
	}
	args = append(args, "--leader-election-id="+Controller, "--health-address=:"+strconv.Itoa(HealthPort), "--metrics-address=:"+strconv.Itoa(MetricsPort))
	if o.WebhookSecret != "" {
		args = append(args, "--webhook-address=:"+strconv.Itoa(WebhookPort), "--webhook-secret-file="+secretsDir+"webhook/"+WebhookKey)
	}
	return append(args, o.Flags...)
}

// AgeDir is where the age key of the environment is mounted.
func (e Environment) AgeDir() string { return secretsDir + "age/" + e.Name }

// SSH reports whether the repository is reached by ssh.
func (o Options) SSH() bool { return o.endpoint().scheme == "ssh" }

// Secrets are the names of the Secrets that the controller's pods cannot start
// without.
func (o Options) Secrets() []string {
	names := slices.Concat([]string{o.GitSecret, o.CASecret, o.GitHubAppSecret, o.WebhookSecret}, o.Mounts)
	for _, e := range o.Environments {
		names = append(names, e.AgeSecret)
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// Egress are the ports that the controller may connect to, of whatever host.
func (o Options) Egress() []int {
	ports := slices.Concat([]int{443, 6443, o.endpoint().port}, o.EgressPorts)
	slices.Sort(ports)
	return slices.Compact(ports)
}

// endpoint is how the repository is reached; the zero one for what is no address.
type endpoint struct {
	scheme string
	port   int
}

var usualPorts = map[string]int{"https": 443, "http": 80, "ssh": 22}

func (o Options) endpoint() endpoint {
	if !strings.Contains(o.Repository, "://") {
		if host, _, scp := strings.Cut(o.Repository, ":"); scp && !strings.Contains(host, "/") {
			return endpoint{"ssh", 22}
		}
		return endpoint{}
	}
	u, err := url.Parse(o.Repository)
	if err != nil || u.Host == "" || usualPorts[u.Scheme] == 0 {
		return endpoint{}
	}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return endpoint{u.Scheme, port}
	}
	return endpoint{u.Scheme, usualPorts[u.Scheme]}
}

// InvalidError says which of the options is wrong.
type InvalidError struct{ Problem, Remedy string }

func (e *InvalidError) Error() string { return e.Problem }

// Hint tells what to do.
func (e *InvalidError) Hint() string { return e.Remedy }

func (o Options) check() error {
	if o.endpoint().port == 0 {
		return &InvalidError{"the repository's address is none that a pod could reach", "give its URL: --repo https://HOST/OWNER/NAME, or ssh://git@HOST/OWNER/NAME"}
	}
	if u, err := url.Parse(o.Repository); err == nil && u.User != nil {
		if _, secret := u.User.Password(); secret || u.Scheme != "ssh" {
			return &InvalidError{"the repository's URL holds credentials, and manifests are no place for them", "put them into a Secret, and name it with --git-secret"}
		}
	}
	if o.Image == "" || strings.ContainsAny(o.Image, " \n\t") {
		return &InvalidError{fmt.Sprintf("%q is not the name of an image", o.Image), "for example --image registry.example.com/sluice:1.0"}
	}
	if o.Replicas < 1 {
		return &InvalidError{fmt.Sprintf("%d replicas are none that could work", o.Replicas), "one works, and two stand in for each other: --replicas 2"}
	}
	if len(o.Environments) == 0 {
		return &InvalidError{"no environment is given", "name each that the controller is to serve: --environment NAME=NAMESPACE"}
	}
	for _, port := range o.EgressPorts {
		if port < 1 || port > 65535 {
			return &InvalidError{fmt.Sprintf("%d is not a port", port), ""}
		}
	}
	if err := o.checkNames(); err != nil {
		return err
	}
	return o.checkEnvironments()
}

// checkNames judges the names of namespaces, accounts and Secrets.
func (o Options) checkNames() error {
	labels := []string{o.Namespace}
	names := slices.Concat(o.Mounts, o.Secrets())
	for _, e := range o.Environments {
		labels = append(labels, e.Name, e.Namespace)
		names = append(names, e.Account)
	}
	for _, name := range labels {
		if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
			return &InvalidError{fmt.Sprintf("%q cannot be a name: %s", name, problems[0]), ""}
		}
	}
	for _, name := range names {
		if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
			return &InvalidError{fmt.Sprintf("%q cannot be a name: %s", name, problems[0]), ""}
		}
	}
	return nil
}

// checkEnvironments keeps namespaces apart: who may write into the controller's
// could read its keys.
func (o Options) checkEnvironments() error {
	names, namespaces := map[string]bool{}, map[string]string{}
	for _, e := range o.Environments {
		if names[e.Name] {
			return &InvalidError{"environment " + e.Name + " is given twice", ""}
		}
		if other, taken := namespaces[e.Namespace]; taken {
			return &InvalidError{"environments " + other + " and " + e.Name + " share namespace " + e.Namespace, "each has a namespace of its own"}
		}
		if e.Namespace == o.Namespace {
			return &InvalidError{"environment " + e.Name + " is in the controller's own namespace " + o.Namespace + ", where its service account could read the controller's keys",
				"give the environment another namespace, or the controller: --namespace"}
		}
		names[e.Name], namespaces[e.Namespace] = true, e.Name
	}
	return nil
}
