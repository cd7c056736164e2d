// Command transit serves the transit engine of HashiCorp Vault, the engine's own
// code on storage in memory, for the tests of package secrets. It has the form of
// Vault's HTTP interface that clients of the engine see, and one token.
//
//	transit TOKEN
//
// It prints its address, serves until its standard input ends, and mounts one
// engine at transit/.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	log "github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/builtin/logical/transit"
	"github.com/hashicorp/vault/sdk/logical"
)

func main() {
	if len(os.Args) != 2 || os.Args[1] == "" {
		fmt.Fprintln(os.Stderr, "usage: transit TOKEN")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "transit:", err)
		os.Exit(1)
	}
}

func run(token string) error {
	ctx := context.Background()
	storage := &logical.InmemStorage{}
	engine, err := transit.Factory(ctx, &logical.BackendConfig{
		StorageView: storage, System: logical.TestSystemView(), Logger: log.NewNullLogger(), BackendUUID: "transit",
	})
	if err != nil {
		return err
	}
	if err := engine.Initialize(ctx, &logical.InitializationRequest{Storage: storage}); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		listener.Close()
	}()
	err = http.Serve(listener, &front{token: token, engine: engine, storage: storage})
	if strings.Contains(err.Error(), "use of closed") {
		return nil
	}
	return err
}

// front is what Vault puts before an engine: the token, and the envelope of
// answers.
type front struct {
	token   string
	engine  logical.Backend
	storage logical.Storage
}

var operations = map[string]logical.Operation{
	http.MethodGet: logical.ReadOperation, http.MethodPost: logical.UpdateOperation, http.MethodPut: logical.UpdateOperation,
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Vault-Token") != f.token {
		refuse(w, http.StatusForbidden, "permission denied")
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/transit/")
	operation := operations[r.Method]
	if !ok || operation == "" {
		refuse(w, http.StatusNotFound, "no handler for route")
		return
	}
	data := map[string]any{}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&data); err != nil && err != io.EOF {
		refuse(w, http.StatusBadRequest, "error parsing JSON")
		return
	}
	request := &logical.Request{Operation: operation, Path: path, Data: data, Storage: f.storage, MountPoint: "transit/"}
	if operation == logical.UpdateOperation { // as Vault's router does
		_, exists, err := f.engine.HandleExistenceCheck(r.Context(), request)
		if err == nil && !exists {
			request.Operation = logical.CreateOperation
		}
	}
	answer, err := f.engine.HandleRequest(r.Context(), request)
	if request.Operation == logical.CreateOperation && err == logical.ErrUnsupportedOperation {
		request.Operation = logical.UpdateOperation
		answer, err = f.engine.HandleRequest(r.Context(), request)
	}
	status, problem := logical.RespondErrorCommon(request, answer, err)
	switch {
	case problem != nil:
		refuse(w, status, problem.Error())
	case answer == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"request_id": "test", "data": answer.Data, "warnings": answer.Warnings})
	}
}

func refuse(w http.ResponseWriter, status int, problem string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {problem}})
}
