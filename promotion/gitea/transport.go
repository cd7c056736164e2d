package gitea

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	maxAnswer = 16 << 20         // bytes of one answer
	maxPages  = 400              // of one list
	pageSize  = 50               // the most that a server gives by default
	timeout   = 60 * time.Second // of one request
)

var (
	errRedirect = errors.New("the server answers with another address")
	errTooLong  = fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
)

// newHTTP returns a client that follows no redirect: the token is for one
// server, and a POST that is sent elsewhere becomes a GET.
func newHTTP(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &http.Client{
		Transport:     boundedTransport{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect },
	}
}

// boundedTransport reads an answer whole, up to maxAnswer: the SDK would read
// without end, and close what says why a merge was refused.
type boundedTransport struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(request.Context(), timeout)
	defer cancel() // nothing is read later
	response, err := t.RoundTripper.RoundTrip(request.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	if err == nil && len(data) > maxAnswer {
		err = errTooLong
	}
	if err != nil {
		return nil, err
	}
	response.Body = &answer{Reader: bytes.NewReader(data), data: data}
	return response, nil
}

// answer is a body that can be looked at after it was read.
type answer struct {
	*bytes.Reader
	data []byte
}

// Close implements io.Closer.
func (*answer) Close() error { return nil }
