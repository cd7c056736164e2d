package envrepo

import (
	"regexp"
	"slices"
	"time"
)

var componentFields = fieldTable{
	"":         {"apiVersion", "kind", "metadata", "image", "config", "dependsOn", "healthTimeout", "health", "secretsIn", "autoDeploy", "paused"},
	"metadata": {"name"},
	"config":   {"required", "optional", "schema"},
	"health[]": {"apiVersion", "kind", "ready", "failed", "message"},
}

var secretKindPattern = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

const (
	defaultHealthTimeout = 5 * time.Minute
	maxHealthTimeout     = 24 * time.Hour
)

func componentDir(name string) string  { return "components/" + name }
func componentFile(name string) string { return componentDir(name) + "/component.yaml" }

// decodeComponent decodes component.yaml of the component that its folder names.
func decodeComponent(file, name string, data []byte) (Component, error) {
	var c Component
	err := decodeFile(file, "Component", componentFields, data, func(o object) {
		if o.require("metadata") {
			metadata, _ := o.child("metadata")
			if metadata.require("name") {
				c.Name = metadata.text("name", componentNameProblem)
				if c.Name != "" && c.Name != name {
					metadata.problem("name", "rename one of them", "is %q, but the folder is %s", clip(c.Name), componentDir(name))
				}
			}
		}
		c.Image = decodeImage(o)
		if config, ok := o.child("config"); ok {
			c.Config = decodeContract(config)
			if schema := config.text("schema", matching(schemaPattern, "a file of the component's folder, such as config.schema.json")); schema != "" {
				c.ConfigSchema = componentDir(name) + "/" + schema
			}
		}
		c.DependsOn = o.texts("dependsOn", func(s string) string {
			if s == name {
				return "is the component itself"
			}
			return componentNameProblem(s)
		})
		c.HealthTimeout = o.duration("healthTimeout", defaultHealthTimeout, time.Second, maxHealthTimeout)
		c.Health = decodeHealth(o, file)
		c.SecretsIn = o.texts("secretsIn", secretKindProblem)
		if o.has("autoDeploy") {
			autoDeploy := o.flag("autoDeploy")
			c.AutoDeploy = &autoDeploy
		}
		c.Paused = o.flag("paused")
	})
	if err != nil {
		return Component{}, err
	}
	return c, nil
}

var schemaPattern = regexp.MustCompile(`^([A-Za-z0-9][-_.A-Za-z0-9]*/)*[A-Za-z0-9][-_.A-Za-z0-9]*\.json$`)

// secretKindProblem judges a kind that may hold decrypted values.
func secretKindProblem(s string) string {
	if s == "Secret" {
		return "may hold decrypted values anyway"
	}
	return matching(secretKindPattern, "a kind, KIND or KIND.GROUP such as License.example.com")(s)
}

// decodeImage decodes the required name of an image.
func decodeImage(o object) string {
	if !o.require("image") {
		return ""
	}
	image, ok := o.d.text(o.value["image"], o.field("image"))
	if problem, hint := imageProblem(image); ok && problem != "" {
		o.problem("image", hint, "%q %s", clip(image), problem)
	}
	return image
}

// decodeContract decodes the names a workload needs and those it may use.
func decodeContract(o object) Contract {
	name := matching(keyPattern, "the name of an environment variable or a key")
	c := Contract{Required: o.texts("required", name)}
	c.Optional = o.texts("optional", func(s string) string {
		if slices.Contains(c.Required, s) {
			return "is required already"
		}
		return name(s)
	})
	return c
}
