package telemetry

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// newProvider makes what spans are exported through, or nil when nobody asked for traces.
func newProvider(ctx context.Context, cfg Config) (*sdktrace.TracerProvider, *processor, error) {
	exp, err := newExporter(ctx, cfg)
	if exp == nil || err != nil {
		return nil, nil, err
	}
	sample, err := samplerFor(cfg.SampleRatio, cfg.SampleRatioSet, cfg.getenv)
	if err != nil {
		return nil, nil, err
	}
	b, err := batchingFor(cfg.getenv)
	if err != nil {
		return nil, nil, err
	}
	res, err := newResource(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	p := newProcessor(exp, b)
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(sample), sdktrace.WithResource(res)), p, nil
}

// newResource says who sends the spans. The environment (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES)
// comes last, because the later detector wins.
func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithAttributes(
			semconv.ServiceName(scopeName),
			semconv.ServiceInstanceID(cfg.NodeID),
			semconv.ServiceVersion(cfg.Version),
			attribute.String("sluice.revision", cfg.Revision),
		),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("describe this node to the trace collector: %w", err)
	}
	return res, nil
}

// newExporter returns nil when traces are not asked for. The SDK reads headers, certificates and timeouts
// from the environment itself; whether, where to and by which protocol is decided here.
func newExporter(ctx context.Context, cfg Config) (sdktrace.SpanExporter, error) {
	switch e := cfg.getenv("OTEL_TRACES_EXPORTER"); {
	case strings.EqualFold(cfg.getenv("OTEL_SDK_DISABLED"), "true"), e == "none":
		return nil, nil
	case e != "" && e != "otlp":
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER=%s is not known here: use otlp or none", e)
	}
	client, err := newClient(cfg)
	if client == nil || err != nil {
		return nil, err
	}
	exp, err := otlptrace.New(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("start the export of traces: %w", err)
	}
	return exp, nil
}

// newClient chooses the protocol and the address: those of the file if it has one, else those of the
// environment.
func newClient(cfg Config) (otlptrace.Client, error) {
	if cfg.OTLPEndpoint != "" {
		return clientFor(cfg.OTLPEndpoint)
	}
	if firstOf(cfg.getenv, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return nil, nil
	}
	switch p := firstOf(cfg.getenv, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); p {
	case "", "http/protobuf":
		return otlptracehttp.NewClient(), nil
	case "grpc":
		return otlptracegrpc.NewClient(), nil
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL=%s is not spoken here: use http/protobuf or grpc", p)
	}
}

func firstOf(getenv func(string) string, names ...string) string {
	for _, name := range names {
		if v := getenv(name); v != "" {
			return v
		}
	}
	return ""
}

// clientFor speaks gRPC in the clear to grpc://host:port, and OTLP over HTTP to everything else.
func clientFor(endpoint string) (otlptrace.Client, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, fmt.Errorf("telemetry.otlp_endpoint is not a URL") // its text may hold a secret
	}
	if u.Scheme == "grpc" {
		return otlptracegrpc.NewClient(otlptracegrpc.WithEndpoint(u.Host), otlptracegrpc.WithInsecure()), nil
	}
	// Given a whole URL, the SDK posts to exactly that.
	if !strings.HasSuffix(u.Path, "/v1/traces") {
		u = u.JoinPath("v1/traces")
	}
	return otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(u.String())), nil
}
