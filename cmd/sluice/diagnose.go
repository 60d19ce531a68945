package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/sluicewal/sluice/internal/api"
	"github.com/sluicewal/sluice/internal/api/client"
	"github.com/sluicewal/sluice/internal/timeline"
)

// diagnoseCmd writes what a report needs into one file. The node masks secrets before it answers.
type diagnoseCmd struct {
	connection
	File string `placeholder:"FILE" help:"The bundle. Default: sluice-diagnose-NODE-TIME.tar.gz"`
}

// bundlePart is a file of the bundle, and the path of the node that it is the answer of.
type bundlePart struct{ name, path string }

var nodeParts = []bundlePart{
	{"node.json", "/v1/node"},
	{"ready.json", "/readyz"},
	{"tenants.json", "/v1/tenants"},
	{"gates.json", "/v1/gates"},
	{"config.yaml", "/v1/config"},
	{"log.txt", "/v1/log"},
	{"diagnostics.json", "/v1/diagnostics"},
	{"goroutines.txt", "/v1/goroutines"},
	{"heap.pprof", "/v1/profiles/heap"},
	{"mutex.pprof", "/v1/profiles/mutex"},
	{"block.pprof", "/v1/profiles/block"},
	{"metrics.txt", "/metrics"},
	{"metrics-timelines.txt", "/metrics/timelines"},
}

// Run writes the bundle. A part that cannot be had is said in errors.txt, and does not keep the others
// out; without any answer there is no bundle.
func (c *diagnoseCmd) Run(ctx context.Context, k *kong.Context) error {
	return c.with(func(cl *client.Client) error {
		node, err := cl.Node(ctx)
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		bundle, err := collectBundle(ctx, cl, now, partWithin)
		if err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
		name := c.File
		if name == "" {
			name = fmt.Sprintf("sluice-diagnose-%s-%s.tar.gz", node.ID, now.Format("20060102T150405Z"))
		}
		if err := os.WriteFile(name, bundle, 0o600); err != nil {
			return fmt.Errorf("write the bundle: %w", err)
		}
		fmt.Fprintf(k.Stdout, "%s: %d bytes, without secrets; look into it before you send it\n", name, len(bundle))
		return nil
	})
}

// partWithin is how long the node may take for one part: what it reads from a disk that hangs keeps the others from nobody.
const partWithin = 20 * time.Second

func collectBundle(ctx context.Context, cl *client.Client, now time.Time, within time.Duration) ([]byte, error) {
	w := newBundle(now)
	client := thisBuild()
	w.add("client.txt", []byte(client.version+" "+client.describe()+"\n"))
	parts, err := timelineParts(ctx, cl)
	var failures bytes.Buffer
	if err != nil {
		fmt.Fprintf(&failures, "timelines: %v\n", err)
	}
	for _, p := range append(nodeParts, parts...) {
		body, err := getWithin(ctx, cl, p.path, within)
		if err != nil {
			fmt.Fprintf(&failures, "%s: %v\n", p.name, err)
			continue
		}
		w.add(p.name, body)
	}
	if failures.Len() > 0 {
		w.add("errors.txt", failures.Bytes())
	}
	return w.close()
}

func getWithin(ctx context.Context, cl *client.Client, path string, within time.Duration) (body []byte, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no answer within %v", within))
	defer cancel()
	_, err = cl.Do(ctx, client.Request{Method: "GET", Path: path}, &body)
	return body, err
}

// timelineParts are the timelines of all tenants, and a check of none: that would ask the sources.
func timelineParts(ctx context.Context, cl *client.Client) ([]bundlePart, error) {
	tenants, err := cl.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	return tenantParts(tenants), nil
}

func tenantParts(tenants []api.Tenant) []bundlePart {
	var parts []bundlePart
	for _, t := range tenants {
		parts = append(parts, bundlePart{"timelines/" + t.Name + ".json", client.TenantPath(timeline.TenantID(t.Name)) + "/timelines"})
	}
	return parts
}

// bundle is a tar.gz in memory; the first error stays.
type bundle struct {
	buf bytes.Buffer
	gz  *gzip.Writer
	tar *tar.Writer
	now time.Time
	err error
}

func newBundle(now time.Time) *bundle {
	b := &bundle{now: now}
	b.gz = gzip.NewWriter(&b.buf)
	b.tar = tar.NewWriter(b.gz)
	return b
}

func (b *bundle) add(name string, content []byte) {
	if b.err != nil {
		return
	}
	b.err = b.tar.WriteHeader(&tar.Header{Name: "sluice-diagnose/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: b.now})
	if b.err == nil {
		_, b.err = b.tar.Write(content)
	}
}

func (b *bundle) close() ([]byte, error) {
	err := errors.Join(b.err, b.tar.Close(), b.gz.Close())
	return b.buf.Bytes(), err
}
