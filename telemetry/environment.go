package telemetry

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// batching is how spans are gathered for their export.
type batching struct {
	delay   time.Duration // how long a span waits for others
	timeout time.Duration // of one export
	queue   int           // how many spans wait at most
	batch   int           // how many are exported at once at most
}

// defaultBatching is not that of the specification where shutdowns, which last seconds, must be seen meanwhile.
var defaultBatching = batching{delay: time.Second, timeout: 10 * time.Second, queue: 2048, batch: 512}

// batchingFor follows the environment, as the OpenTelemetry specification has it ("Batch Span Processor").
func batchingFor(getenv func(string) string) (batching, error) {
	b := defaultBatching
	for _, v := range []struct {
		name string
		set  func(n int)
	}{
		{"OTEL_BSP_SCHEDULE_DELAY", func(n int) { b.delay = time.Duration(n) * time.Millisecond }},
		{"OTEL_BSP_EXPORT_TIMEOUT", func(n int) { b.timeout = time.Duration(n) * time.Millisecond }},
		{"OTEL_BSP_MAX_QUEUE_SIZE", func(n int) { b.queue = n }},
		{"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", func(n int) { b.batch = n }},
	} {
		text := getenv(v.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 1 {
			return batching{}, fmt.Errorf("%s=%s is no whole number above 0", v.name, text)
		}
		v.set(int(n))
	}
	b.batch = min(b.batch, b.queue)
	return b, nil
}

// honoured are the variables of the OpenTelemetry specification that this package or the SDK follows.
var honoured = regexp.MustCompile(`^OTEL_(SDK_DISABLED|SERVICE_NAME|RESOURCE_ATTRIBUTES` +
	`|TRACES_EXPORTER|TRACES_SAMPLER|TRACES_SAMPLER_ARG` +
	`|BSP_(SCHEDULE_DELAY|EXPORT_TIMEOUT|MAX_QUEUE_SIZE|MAX_EXPORT_BATCH_SIZE)` +
	`|EXPORTER_OTLP_(TRACES_)?(ENDPOINT|PROTOCOL|HEADERS|TIMEOUT|COMPRESSION|INSECURE|CERTIFICATE|CLIENT_CERTIFICATE|CLIENT_KEY)` +
	`|(SPAN_)?ATTRIBUTE_(COUNT|VALUE_LENGTH)_LIMIT|SPAN_(EVENT|LINK)_COUNT_LIMIT|(EVENT|LINK)_ATTRIBUTE_COUNT_LIMIT)$`)

// WithoutEffect returns the names of those variables of an environment (os.Environ) that are meant for OpenTelemetry, and that
// nothing here follows.
func WithoutEffect(environ []string) (names []string) {
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "OTEL_") && value != "" && !honoured.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
