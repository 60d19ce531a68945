package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sluicewal/sluice/internal/conninfo"
	"github.com/sluicewal/sluice/internal/timeline"
)

const timelineRoute = "/v1/tenants/{t}/timelines/{l}"

// TimelinePath names a timeline in a path.
type TimelinePath struct {
	Tenant   string `path:"t" doc:"The tenant's name" example:"acme"`
	Timeline string `path:"l" doc:"The timeline's name" example:"main"`
}

func (p TimelinePath) id() (timeline.ID, error) {
	id, err := timeline.NewID(p.Tenant, p.Timeline)
	if err != nil {
		return timeline.ID{}, Errorf(KindInvalid, "%w", err)
	}
	return id, nil
}

func (s *Server) timelineRoutes(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/v1/tenants/{t}/timelines", "list-timelines", "All timelines of a tenant"), s.listTimelines)
	huma.Register(api, operation(http.MethodGet, timelineRoute, "get-timeline", "One timeline"), s.getTimeline)
	huma.Register(api, operation(http.MethodPut, timelineRoute, "put-timeline", "Create a timeline, or set its source"), s.putTimeline)
	huma.Register(api, operation(http.MethodDelete, timelineRoute, "delete-timeline", "Delete a timeline"), s.deleteTimeline)
}

func (s *Server) listTimelines(ctx context.Context, in *TenantPath) (*reply[[]timeline.Status], error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	timelines, err := s.node.Timelines(id)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	shown := make([]timeline.Status, len(timelines))
	for i, t := range timelines {
		shown[i] = presentable(t)
	}
	return &reply[[]timeline.Status]{shown}, nil
}

func (s *Server) getTimeline(ctx context.Context, in *TimelinePath) (*reply[timeline.Status], error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	t, err := s.node.Timeline(id)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &reply[timeline.Status]{presentable(t)}, nil
}

type putTimelineInput struct {
	TimelinePath
	New            bool   `query:"new" doc:"No other node and no store has ever held this timeline"`
	Incarnation    string `query:"incarnation" doc:"Go on with this life of the timeline, which was deleted with its objects kept"`
	AcceptDataLoss bool   `query:"accept_data_loss" doc:"Follow a source that lacks acknowledged commits"`
	IfNoneMatch    string `header:"If-None-Match" doc:"* to create only" enum:"*"`
	IfMatch        string `header:"If-Match" doc:"* to set the source of an existing timeline only" enum:"*"`
	Body           struct {
		Source string `json:"source" doc:"PostgreSQL connection string of the server to stream from" example:"host=10.0.0.5 port=5432 user=sluice"`
	}
}

type putTimelineReply struct {
	Status int
	Body   timeline.Status
}

func (s *Server) putTimeline(ctx context.Context, in *putTimelineInput) (*putTimelineReply, error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	if err := conninfo.Check(in.Body.Source); err != nil {
		return nil, s.fail(ctx, Errorf(KindInvalid, "the source cannot be used: %w", err))
	}
	if in.New && in.Incarnation != "" {
		return nil, s.fail(ctx, Errorf(KindInvalid, "a timeline that is new has no incarnation to go on with: leave one of the two out"))
	}
	t, created, err := s.createOrSet(ctx, id, in)
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return &putTimelineReply{putStatus(created), presentable(t)}, nil
}

// createOrSet follows the preconditions of RFC 9110, section 13.1; without one the timeline is created
// when it is not there.
func (s *Server) createOrSet(ctx context.Context, id timeline.ID, in *putTimelineInput) (t timeline.Status, created bool, err error) {
	if in.IfMatch == "" {
		t, err = s.node.CreateTimeline(ctx, id, CreateOptions{Source: in.Body.Source, New: in.New, Incarnation: in.Incarnation})
		if in.IfNoneMatch != "" || err == nil || KindOf(err) != KindExists {
			return t, err == nil, err
		}
	}
	t, err = s.node.SetTimeline(ctx, id, SetOptions{Source: in.Body.Source, AcceptDataLoss: in.AcceptDataLoss})
	return t, false, err
}

type deleteTimelineInput struct {
	TimelinePath
	Waiting
	KeepObjects bool `query:"keep_objects" doc:"Keep what is in object storage"`
}

func (s *Server) deleteTimeline(ctx context.Context, in *deleteTimelineInput) (*done, error) {
	id, err := in.id()
	if err != nil {
		return nil, s.fail(ctx, err)
	}
	return s.finish(ctx, in.Waiting, func(ctx context.Context) error { return s.node.DeleteTimeline(ctx, id, in.KeepObjects) })
}

// presentable is a status as it leaves the node: without secrets, and with empty lists instead of null.
func presentable(t timeline.Status) timeline.Status {
	if t.Source.Conninfo != "" {
		t.Source.Conninfo = conninfo.Mask(t.Source.Conninfo)
	}
	t.Quorum.Names = list(t.Quorum.Names)
	t.Diverged = list(t.Diverged)
	t.Tasks = list(t.Tasks)
	t.Gate.Holders = list(t.Gate.Holders)
	t.Peers = list(t.Peers)
	return t
}
