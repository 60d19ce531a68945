package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (s *Server) sealRoutes(api huma.API) {
	huma.Register(api, operation(http.MethodPost, timelineRoute+"/seal", "seal-timeline", "Promise never again to acknowledge this TLI, and decide its end"), s.seal)
	huma.Register(api, operation(http.MethodDelete, timelineRoute+"/seal", "unseal-timeline", "Take a seal back"), s.unseal)
	huma.Register(api, operation(http.MethodGet, timelineRoute+"/check", "check-timeline", "Does the source really wait for this node?"), s.check)
	huma.Register(api, operation(http.MethodPost, timelineRoute+"/trim", "trim-timeline", "Remove segments from object storage"), s.trim)
}

type sealInput struct {
	TimelinePath
	AcceptDataLoss bool `query:"accept_data_loss" doc:"Seal without the word of enough nodes"`
}

func (s *Server) seal(ctx context.Context, in *sealInput) (*reply[SealResult], error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	sealed, err := s.node.Seal(ctx, id, in.AcceptDataLoss)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	sealed.Nodes, sealed.Warnings = list(sealed.Nodes), list(sealed.Warnings)
	return &reply[SealResult]{sealed}, nil
}

type unsealInput struct {
	TimelinePath
	Force bool `query:"force" doc:"Although the tail was handed out"`
}

func (s *Server) unseal(ctx context.Context, in *unsealInput) (*struct{}, error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if err := s.node.Unseal(ctx, id, in.Force); err != nil {
		return nil, s.fail(ctx, err)
	}
	return nil, nil
}

func (s *Server) check(ctx context.Context, in *TimelinePath) (*reply[CheckResult], error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	result, err := s.node.Check(ctx, id)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	result.Lines = list(result.Lines)
	return &reply[CheckResult]{result}, nil
}

type trimInput struct {
	TimelinePath
	Before string `query:"before" doc:"The first segment to keep" required:"true"`
}

func (s *Server) trim(ctx context.Context, in *trimInput) (*reply[TrimResult], error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	result, err := s.node.Trim(ctx, id, in.Before)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &reply[TrimResult]{result}, nil
}
