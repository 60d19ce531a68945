package telemetry

import (
	"fmt"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// sampleKey on a span that is started makes it sampled, whatever the ratio: what a person would look for
// must be there. It stays on the span, so that a collector that samples again can keep it, too.
const sampleKey = attribute.Key("sluice.sample")

// always is the attribute for spans that are never left to chance.
func always() attribute.KeyValue { return sampleKey.Bool(true) }

// sampler asks next about all spans that need not be there.
type sampler struct{ next sdktrace.Sampler }

func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, a := range p.Attributes {
		if a.Key == sampleKey && a.Value.AsBool() {
			return sdktrace.AlwaysSample().ShouldSample(p)
		}
	}
	return s.next.ShouldSample(p)
}

func (s sampler) Description() string { return "Sluice{" + s.next.Description() + "}" }

// samplerFor follows the file where it says something, then the environment, as the OpenTelemetry
// specification has it ("General SDK Configuration"), and else takes everything.
func samplerFor(ratio float64, inFile bool, getenv func(string) string) (sdktrace.Sampler, error) {
	name := getenv("OTEL_TRACES_SAMPLER")
	if inFile || name == "" {
		return sampler{sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))}, nil
	}
	base, err := samplerByName(name, getenv("OTEL_TRACES_SAMPLER_ARG"))
	if err != nil {
		return nil, err
	}
	return sampler{base}, nil
}

func samplerByName(name, arg string) (sdktrace.Sampler, error) {
	switch name {
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	case "traceidratio", "parentbased_traceidratio":
		return ratioSampler(name, arg)
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER=%s is not known here", name)
}

func ratioSampler(name, arg string) (sdktrace.Sampler, error) {
	ratio := 1.0
	if arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG=%s is no number from 0 to 1", arg)
		}
	}
	if name == "traceidratio" {
		return sdktrace.TraceIDRatioBased(ratio), nil
	}
	return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
}
