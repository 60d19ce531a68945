package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/timeline"
)

// Flags become query parameters: those that are true.
type Flags map[string]bool

func (f Flags) values() url.Values {
	v := url.Values{}
	for name, on := range f {
		if on {
			v.Set(name, "1")
		}
	}
	return v
}

// TenantPath is where a tenant is found.
func TenantPath(t timeline.TenantID) string { return "/v1/tenants/" + url.PathEscape(string(t)) }

// TimelinePath is where a timeline is found.
func TimelinePath(id timeline.ID) string {
	return TenantPath(id.Tenant) + "/timelines/" + url.PathEscape(id.Name)
}

// get decodes what a path answers.
func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	_, err := c.Do(ctx, Request{Method: http.MethodGet, Path: path}, &out)
	return out, err
}

// Node tells who the node is.
func (c *Client) Node(ctx context.Context) (api.NodeInfo, error) {
	return get[api.NodeInfo](ctx, c, "/v1/node")
}

// Ready fails while the node starts or stops.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.Do(ctx, Request{Method: http.MethodGet, Path: "/readyz"}, nil)
	return err
}

// Gates lists the gates that are closing.
func (c *Client) Gates(ctx context.Context) ([]api.ClosingGate, error) {
	return get[[]api.ClosingGate](ctx, c, "/v1/gates")
}

// Tenants lists all tenants.
func (c *Client) Tenants(ctx context.Context) ([]api.Tenant, error) {
	return get[[]api.Tenant](ctx, c, "/v1/tenants")
}

// Tenant tells about one.
func (c *Client) Tenant(ctx context.Context, t timeline.TenantID) (api.Tenant, error) {
	return get[api.Tenant](ctx, c, TenantPath(t))
}

// Timelines lists the timelines of a tenant.
func (c *Client) Timelines(ctx context.Context, t timeline.TenantID) ([]timeline.Status, error) {
	return get[[]timeline.Status](ctx, c, TenantPath(t)+"/timelines")
}

// Timeline tells about one.
func (c *Client) Timeline(ctx context.Context, id timeline.ID) (timeline.Status, error) {
	return get[timeline.Status](ctx, c, TimelinePath(id))
}

// Check asks whether the source really waits for the node.
func (c *Client) Check(ctx context.Context, id timeline.ID) (api.CheckResult, error) {
	return get[api.CheckResult](ctx, c, TimelinePath(id)+"/check")
}

// CreateTenant makes a tenant, if it is not there.
func (c *Client) CreateTenant(ctx context.Context, t timeline.TenantID) (api.Tenant, error) {
	var out api.Tenant
	_, err := c.Do(ctx, Request{Method: http.MethodPut, Path: TenantPath(t)}, &out)
	return out, err
}

// SetTenantMode changes what a tenant does on the node. It reports whether the work is done, as Delete does.
func (c *Client) SetTenantMode(ctx context.Context, t timeline.TenantID, mode api.Mode, force bool, timeout string) (_ api.Tenant, done bool, err error) {
	var out api.Tenant
	body := map[string]api.Mode{"mode": mode}
	query := waiting(Flags{"force": force}, timeout)
	status, err := c.Do(ctx, Request{Method: http.MethodPut, Path: TenantPath(t) + "/mode", Query: query, Body: body}, &out)
	return out, status != http.StatusAccepted, err
}

// waiting adds how long a client waits, such as "30s"; "": until the work is done.
func waiting(f Flags, timeout string) url.Values {
	query := f.values()
	if timeout != "" {
		query.Set("timeout", timeout)
	}
	return query
}

// CreateTimeline makes a timeline; api.KindExists if there is one.
func (c *Client) CreateTimeline(ctx context.Context, id timeline.ID, o api.CreateOptions) (timeline.Status, error) {
	query := Flags{"new": o.New}.values()
	if o.Incarnation != "" {
		query.Set("incarnation", o.Incarnation)
	}
	return c.putTimeline(ctx, id, "If-None-Match", o.Source, query)
}

// SetTimeline sets the source of a timeline that exists.
func (c *Client) SetTimeline(ctx context.Context, id timeline.ID, o api.SetOptions) (timeline.Status, error) {
	return c.putTimeline(ctx, id, "If-Match", o.Source, Flags{"accept_data_loss": o.AcceptDataLoss}.values())
}

func (c *Client) putTimeline(ctx context.Context, id timeline.ID, precondition, source string, query url.Values) (timeline.Status, error) {
	var out timeline.Status
	_, err := c.Do(ctx, Request{
		Method: http.MethodPut, Path: TimelinePath(id), Query: query,
		Header: http.Header{precondition: {"*"}}, Body: map[string]string{"source": source},
	}, &out)
	return out, err
}

// Delete deletes a tenant or a timeline, by its path. It reports whether the work is done; it goes on
// where a timeout, such as "30s", ended the wait.
func (c *Client) Delete(ctx context.Context, path string, keepObjects bool, timeout string) (done bool, err error) {
	query := waiting(Flags{"keep_objects": keepObjects}, timeout)
	status, err := c.Do(ctx, Request{Method: http.MethodDelete, Path: path, Query: query}, nil)
	return status != http.StatusAccepted, err
}

// Seal seals a timeline.
func (c *Client) Seal(ctx context.Context, id timeline.ID, acceptDataLoss bool) (api.SealResult, error) {
	var out api.SealResult
	query := Flags{"accept_data_loss": acceptDataLoss}.values()
	_, err := c.Do(ctx, Request{Method: http.MethodPost, Path: TimelinePath(id) + "/seal", Query: query}, &out)
	return out, err
}

// Unseal takes a seal back.
func (c *Client) Unseal(ctx context.Context, id timeline.ID, force bool) error {
	_, err := c.Do(ctx, Request{Method: http.MethodDelete, Path: TimelinePath(id) + "/seal", Query: Flags{"force": force}.values()}, nil)
	return err
}

// Trim removes segments from object storage.
func (c *Client) Trim(ctx context.Context, id timeline.ID, before string) (api.TrimResult, error) {
	var result api.TrimResult
	_, err := c.Do(ctx, Request{Method: http.MethodPost, Path: TimelinePath(id) + "/trim", Query: url.Values{"before": {before}}}, &result)
	return result, err
}
