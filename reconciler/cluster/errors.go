package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/sluice-dev/sluice/api/v1alpha1"
)

// UnreachableError says that an API server does not answer.
type UnreachableError struct {
	Server string // without credentials
	Doing  string
	Cause  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("cluster %s does not answer: %s: %v", e.Server, e.Doing, e.Cause)
}

func (e *UnreachableError) Unwrap() error { return e.Cause }

// Hint tells what to do.
func (e *UnreachableError) Hint() string {
	return "check --kubeconfig and --context, and that the API server runs and can be reached from here"
}

// AccessError says that the API server does not let us.
type AccessError struct {
	Server string
	Doing  string
	As     string // who was impersonated; "": nobody
	Cause  error
}

func (e *AccessError) Error() string {
	return fmt.Sprintf("%s: cluster %s refuses: %v", e.Doing, e.Server, e.Cause)
}

func (e *AccessError) Unwrap() error { return e.Cause }

// Hint tells what to do.
func (e *AccessError) Hint() string {
	if apierrors.IsUnauthorized(e.Cause) {
		return "the credentials of the kubeconfig are not valid for this cluster; log in again or choose another --context"
	}
	if e.As != "" {
		return "the environment's objects are read and written as " + e.As + ": give it this permission by a Role in the environment's namespace if the repository is to have it, else take the object out of the repository"
	}
	return "give the user or ServiceAccount of the kubeconfig the permission that the message names"
}

// MissingCRDError says that the cluster does not know Releases.
type MissingCRDError struct{ Server string }

func (e *MissingCRDError) Error() string {
	return fmt.Sprintf("cluster %s has no resource releases.%s", e.Server, v1alpha1.Group)
}

// Hint tells what to do.
func (e *MissingCRDError) Hint() string {
	return "install it once for each cluster: sluice install --crds"
}

// UnknownKindError says that the cluster does not know a kind.
type UnknownKindError struct {
	Doing string
	Cause error
}

func (e *UnknownKindError) Error() string { return fmt.Sprintf("%s: %v", e.Doing, e.Cause) }

func (e *UnknownKindError) Unwrap() error { return e.Cause }

// Hint tells what to do.
func (e *UnknownKindError) Hint() string {
	return "install the CustomResourceDefinition of the kind, or correct apiVersion and kind"
}

// Permanent reports whether an error will come again however often the same
// request is sent: the object is refused for what it is. What may pass by itself
// (timeouts, overload, conflicts, a missing network) is not permanent.
func Permanent(err error) bool {
	var unknown *UnknownKindError
	return errors.As(err, &unknown) ||
		apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsForbidden(err) ||
		apierrors.IsUnauthorized(err) || apierrors.IsMethodNotSupported(err) || apierrors.IsRequestEntityTooLargeError(err) ||
		apierrors.IsUnsupportedMediaType(err)
}

// explain turns an error of the client libraries into one that names what was
// being done, and has a hint where somebody can do something.
func (c *Client) explain(err error, doing string, args ...any) error {
	doing = fmt.Sprintf(doing, args...)
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, err)
	case meta.IsNoMatchError(err):
		return &UnknownKindError{Doing: doing, Cause: err}
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return &AccessError{Server: c.server, Doing: doing, As: c.as, Cause: err}
	case unreachable(err):
		return &UnreachableError{Server: c.server, Doing: doing, Cause: rootOf(err)}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func unreachable(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return false // it has answered
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) ||
		utilnet.IsConnectionRefused(err) || utilnet.IsConnectionReset(err) || utilnet.IsProbableEOF(err) ||
		strings.Contains(err.Error(), "tls:") || strings.Contains(err.Error(), "x509:")
}

// rootOf drops the URL that net/http puts in front: it repeats the server, and
// may carry credentials.
func rootOf(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Answer is what the API server says by an error.
type Answer int

// The answers.
const (
	AnswerNone        Answer = iota // nothing about the object: it may be taken the next time
	AnswerInvalid                   // the object is not valid, or cannot take the place of the present one
	AnswerNotAdmitted               // who asks may not, or a policy, a webhook or a quota is against it
	AnswerTaken                     // an address or port that only one Service can have is another's, for now at least
)

// AnswerOf is what the error of a dry run says about the object. That a webhook
// takes no dry runs is a bad request, and that a namespace is missing not found:
// neither is about the object.
func AnswerOf(err error) Answer {
	var unknown *UnknownKindError
	switch {
	case taken(err):
		return AnswerTaken
	case apierrors.IsInvalid(err) && len(refusedFields(err)) > 0,
		apierrors.IsRequestEntityTooLargeError(err), apierrors.IsUnsupportedMediaType(err), unexplained(err):
		return AnswerInvalid
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsUnauthorized(err), apierrors.IsMethodNotSupported(err), errors.As(err, &unknown):
		return AnswerNotAdmitted
	}
	return AnswerNone
}

// taken reports whether nothing is wrong with a Service but that somebody else has
// an address or port that it is to have. Where the present one may not change its
// own, a Service in its place would be taken, and the error says so.
func taken(err error) bool {
	var immutable *ImmutableError
	fields := refusedFields(err)
	return len(fields) > 0 && !errors.As(err, &immutable) && !slices.ContainsFunc(fields, func(field string) bool { return !allocated.MatchString(field) })
}

// allocated are the fields of a Service of which each value is given out once.
var allocated = regexp.MustCompile(`^spec\.(clusterIPs?(\[\d+\])?|healthCheckNodePort|ports\[\d+\]\.nodePort)$`)

// unexplained reports whether an error has neither a reason nor details: so the API
// server answers to an object that does not fit the schema of its kind. etcd's
// errors look the same, and pass; those of webhooks and of the server itself have a
// reason.
func unexplained(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code == http.StatusInternalServerError &&
		status.Status().Reason == metav1.StatusReasonUnknown && status.Status().Details == nil
}
