package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicewal/sluice/internal/timeline"
)

// problemOf turns an error into the problem that the client is told.
func problemOf(err error) *huma.ErrorModel {
	kind := KindOf(err)
	rule := kindRules[kind]
	return &huma.ErrorModel{Type: kind.URI(), Title: rule.title, Status: rule.status, Detail: err.Error()}
}

// fail turns a node's error into the answer of a huma handler.
func (s *Server) fail(ctx context.Context, err error) error {
	err = classify(ctx, err)
	if KindOf(err) == KindInternal {
		s.log.LogAttrs(ctx, slog.LevelError, "request failed", slog.Any("error", err))
	}
	return huma.ErrorWithHeaders(problemOf(err), retryHeader(KindOf(err)))
}

// classify gives a kind to errors that have none of ours.
func classify(ctx context.Context, err error) error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(err, timeline.ErrShuttingDown):
		return Errorf(KindShuttingDown, "%w", err)
	case errors.Is(err, timeline.ErrBroken):
		return Errorf(KindUnavailable, "%w", err)
	case ctx.Err() != nil:
		// The client went away and reads no answer, or the server stops.
		return Errorf(KindShuttingDown, "the node is shutting down: %w", err)
	}
	return err
}

func retryHeader(kind Kind) http.Header {
	h := http.Header{}
	if after := kindRules[kind].retryAfter; after > 0 {
		h.Set("Retry-After", strconv.Itoa(after))
	}
	return h
}

// describeProblem completes the problems that huma makes: it gives them no type, and would echo what
// the client sent, passwords included.
func describeProblem(_ huma.Context, _ string, v any) (any, error) {
	p, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	described := *p
	if described.Type == "" {
		described.Type = kindOfStatus(p.Status).URI()
	}
	described.Errors = nil
	for _, d := range p.Errors {
		described.Errors = append(described.Errors, &huma.ErrorDetail{Message: d.Message, Location: d.Location})
	}
	return &described, nil
}

func kindOfStatus(status int) Kind {
	switch status {
	case http.StatusNotFound:
		return KindNotFound
	case http.StatusMethodNotAllowed:
		return KindMethod
	case http.StatusRequestEntityTooLarge:
		return KindTooLarge
	}
	if status >= 500 {
		return KindInternal
	}
	return KindInvalid
}

// writeProblem answers with a problem outside of huma.
func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	h := w.Header()
	h.Del("Content-Length") // of an answer that was begun and not sent
	for key, values := range retryHeader(KindOf(err)) {
		h[key] = values
	}
	h.Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client's loss
}
