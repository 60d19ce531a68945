package telemetry

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/sluicewal/sluice/internal/timeline"
)

// Life tells which incarnation a timeline has from now on: its spans say so.
func (t *Telemetry) Life(id timeline.ID, incarnation timeline.Incarnation) {
	t.scoped(id).life.Store(&incarnation)
}

// idAttributes are on each span that belongs to a timeline, or to a tenant (whose id has no name).
func (t *Telemetry) idAttributes(id timeline.ID) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.String("tenant", string(id.Tenant))}
	if id.Name == "" {
		return attrs
	}
	attrs = append(attrs, attribute.String("timeline", id.Name))
	if s := t.known(id); s != nil {
		return s.withLife(attrs)
	}
	return attrs
}

// withLife adds the incarnation, once it is known.
func (s *scopedEvents) withLife(attrs []attribute.KeyValue) []attribute.KeyValue {
	if life := s.life.Load(); life != nil && *life != "" {
		attrs = append(attrs, attribute.String("incarnation", string(*life)))
	}
	return attrs
}

// identity is idAttributes of this timeline.
func (s *scopedEvents) identity() []attribute.KeyValue {
	return s.withLife([]attribute.KeyValue{attribute.String("tenant", string(s.id.Tenant)), attribute.String("timeline", s.id.Name)})
}
