package reconciler

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/sluice-dev/sluice/api/v1alpha1"
	"github.com/sluice-dev/sluice/envrepo"
	"github.com/sluice-dev/sluice/render/traffic"
)

// hintFor is what to do about a verdict, in one line; "" when nothing needs
// doing or nobody knows.
func hintFor(in *Input, v Verdict, cause error) string {
	if cause != nil {
		return causeHint(in, cause)
	}
	switch v.Reason {
	case v1alpha1.ReasonNamespaceMissing:
		return fmt.Sprintf("create it (kubectl create namespace %s), or add a Namespace object to environments/%s", in.Namespace.Name, in.Release.Environment.Name)
	case v1alpha1.ReasonEmptyRender:
		return "delete the release's folder to remove the release; an empty kustomization is taken for a mistake"
	case v1alpha1.ReasonOwnedByAnother:
		if foreignRelease(in) && in.Last.Spec.Project == in.Project {
			return fmt.Sprintf("give one of the projects another name; if the repository has moved, clear it in the Release: kubectl patch release %s -n %s --type=merge -p '{\"spec\":{\"repository\":null}}'", in.Last.Name, in.Last.Namespace)
		}
		return "rename the object, or remove it from the other release first; to adopt an object that was left behind, remove its label " + v1alpha1.LabelRelease +
			", one of another tool, annotate it with " + v1alpha1.AnnotationAdopt + ": \"true\""
	case v1alpha1.ReasonContested:
		return "have one of the two leave the field alone: the other controller, or the repository (what it does not declare is not corrected)"
	case v1alpha1.ReasonTerminating:
		return "if it does not end, find the controller whose finalizer keeps the object"
	case v1alpha1.ReasonNamespaceRefused:
		return "a release may only hold objects of its environment's namespace"
	case v1alpha1.ReasonApplyFailed: // by tooLarge; what the API server says comes as an error
		return "split the release, or shorten the names of its objects"
	case v1alpha1.ReasonDependencyNotReady:
		if len(in.Circle) > 0 {
			return "correct dependsOn in components/" + in.Circle[0] + "/component.yaml, or in another of the circle"
		}
	case v1alpha1.ReasonRenderFailed:
		return brokenHint(in)
	case v1alpha1.ReasonPruneHeld, v1alpha1.ReasonEnvironmentHeld:
		if h := in.Ruling.Held; h != nil {
			way := "take the commit back"
			if h.Unclear {
				way = "repair the releases that it waits for"
			}
			return fmt.Sprintf("%s, or allow exactly this deletion: sluice prune acknowledge %s --environment %s", way, h.Token, in.Release.Environment.Name)
		}
		if len(in.Ruling.Untaken) > 0 {
			return "apply both releases in one run"
		}
		return "repair the releases that it waits for"
	case v1alpha1.ReasonWaitingForHealth, v1alpha1.ReasonHealthFailed, v1alpha1.ReasonHealthTimeout, v1alpha1.ReasonRetireHeld:
		return v.hint
	case v1alpha1.ReasonTrafficHeld:
		return cmp.Or(v.hint, "fix the tag, or set its weight to 0")
	case v1alpha1.ReasonTrafficRefused:
		if in.Rendered != nil && in.Release.Tagged() {
			return trafficHint(in)
		}
	}
	return ""
}

// causeHint is what to do about the error that a pass ended with: what the error
// itself knows, or else where to look for what is wrong, and how to see it again
// before the next commit.
func causeHint(in *Input, cause error) string {
	env := in.Release.Environment.Name
	var apply *ApplyError
	var render *RenderError
	switch {
	case errors.As(cause, &apply) && hintOf(unwrapObjects(apply.Objects)...) == "" && len(apply.Objects) > 0:
		names := make([]string, len(apply.Objects))
		for i, o := range apply.Objects {
			names[i] = o.ID.Display()
		}
		return fmt.Sprintf("correct %s in %s, or in what that takes from components/; before the commit, sluice diff %s --environment %s shows the same refusal",
			some(names, len(names), "", ""), sourceOf(in), in.Release.Name, env)
	case errors.As(cause, &render) && hintOf(render.Err) == "":
		return fmt.Sprintf("correct %s, or what it takes from components/; before the commit, sluice check --environment %s shows the whole message", sourceOf(in), env)
	}
	return hintOf(cause)
}

// sourceOf is the folder that a release is rendered from. Where the repository
// could not be read so far, it is the one that the layout has for it.
func sourceOf(in *Input) string {
	switch env := in.Release.Environment.Name; {
	case in.Release.Dir != "":
		return in.Release.Dir
	case in.Release.Name == envrepo.EnvironmentRelease:
		return "environments/" + env
	default:
		return "environments/" + env + "/" + in.Release.Name
	}
}

// trafficHint asks the transform again for the hint of its refusal.
func trafficHint(in *Input) string {
	tags := make([]string, len(in.Rendered.Tags))
	for i, t := range in.Rendered.Tags {
		tags[i] = t.Name
	}
	routes, _ := traffic.Routes(in.Rendered.Shared, in.Release.Component.Name)
	_, err := traffic.Transform(routes, in.beside(), in.Release.Component.Name, *in.Release.Traffic, tags, in.Support)
	if err == nil {
		return ""
	}
	return hintOf(err)
}
