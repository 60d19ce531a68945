package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicewal/sluice/internal/timeline"
)

// TenantPath names a tenant in a path. It is exported because huma reads exported fields only, those
// of embedded types included.
type TenantPath struct {
	Tenant string `path:"t" doc:"The tenant's name" example:"acme"`
}

func (p TenantPath) id() (timeline.TenantID, error) {
	id, err := timeline.ParseTenantID(p.Tenant)
	if err != nil {
		return "", Errorf(KindInvalid, "%w", err)
	}
	return id, nil
}

// Waiting bounds how long a client waits for work that goes on without it.
type Waiting struct {
	Timeout string `query:"timeout" doc:"Answer 202 after this time; the work goes on" example:"30s"`
}

// context returns ctx with the deadline of the client's, if it gave one.
func (w Waiting) context(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if w.Timeout == "" {
		return ctx, func() {}, nil
	}
	d, err := time.ParseDuration(w.Timeout)
	if err != nil || d <= 0 {
		return nil, nil, Errorf(KindInvalid, "timeout has to be a duration such as 30s")
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	return ctx, cancel, nil
}

// A GoesOn is the answer with status 202: the client's time is over and the work is not.
type GoesOn struct {
	Detail string `json:"detail"`
}

// done is the answer of a deletion: 204, or 202 with a body.
type done struct {
	Status int
	Body   *GoesOn
}

// finish runs work within the client's time.
func (s *Server) finish(ctx context.Context, w Waiting, work func(context.Context) error) (*done, error) {
	waitCtx, cancel, err := w.context(ctx)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	defer cancel()
	err = work(waitCtx)
	switch {
	case err == nil:
		return &done{Status: http.StatusNoContent}, nil
	case ctx.Err() == nil && waitCtx.Err() != nil && errors.Is(err, context.DeadlineExceeded):
		return &done{http.StatusAccepted, &GoesOn{"the work goes on; ask again, or see the timeline's operation"}}, nil
	}
	return nil, s.fail(ctx, err)
}

func (s *Server) tenantRoutes(api huma.API) {
	const one = "/v1/tenants/{t}"
	huma.Register(api, operation(http.MethodGet, "/v1/tenants", "list-tenants", "All tenants"), s.listTenants)
	huma.Register(api, operation(http.MethodGet, one, "get-tenant", "One tenant"), s.getTenant)
	huma.Register(api, operation(http.MethodPut, one, "put-tenant", "Create a tenant if it is not there"), s.putTenant)
	huma.Register(api, operation(http.MethodDelete, one, "delete-tenant", "Delete a tenant with its timelines"), s.deleteTenant)
	huma.Register(api, operation(http.MethodPut, one+"/mode", "set-tenant-mode", "Change what a tenant does on this node; one that only object storage knows is looked for there"), s.setTenantMode)
}

func (s *Server) listTenants(context.Context, *struct{}) (*reply[[]Tenant], error) {
	return &reply[[]Tenant]{list(s.node.Tenants())}, nil
}

func (s *Server) getTenant(ctx context.Context, in *TenantPath) (*reply[Tenant], error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	t, err := s.node.Tenant(id)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &reply[Tenant]{t}, nil
}

type putTenantReply struct {
	Status int
	Body   Tenant
}

func (s *Server) putTenant(ctx context.Context, in *TenantPath) (*putTenantReply, error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	t, created, err := s.node.CreateTenant(ctx, id)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &putTenantReply{putStatus(created), t}, nil
}

func putStatus(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

type deleteTenantInput struct {
	TenantPath
	Waiting
	KeepObjects bool `query:"keep_objects" doc:"Keep what is in object storage"`
}

func (s *Server) deleteTenant(ctx context.Context, in *deleteTenantInput) (*done, error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return s.finish(ctx, in.Waiting, func(ctx context.Context) error { return s.node.DeleteTenant(ctx, id, in.KeepObjects) })
}

type setModeInput struct {
	TenantPath
	Waiting
	Force bool `query:"force" doc:"Leave although the source still waits for this node"`
	Body  struct {
		Mode Mode `json:"mode" enum:"attached,secondary,detached"`
	}
}

type setModeReply struct {
	Status int
	Body   Tenant
}

// setTenantMode answers 202, with the tenant as it is, when the client's time is over and the change is not.
func (s *Server) setTenantMode(ctx context.Context, in *setModeInput) (*setModeReply, error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	end, err := s.finish(ctx, in.Waiting, func(ctx context.Context) error {
		_, err := s.node.SetTenantMode(ctx, id, in.Body.Mode, in.Force)
		return err
	})
	if err != nil {
		return nil, err // has its kind
	}
	t, err := s.node.Tenant(id)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if end.Status == http.StatusAccepted {
		return &setModeReply{http.StatusAccepted, t}, nil
	}
	return &setModeReply{http.StatusOK, t}, nil
}
