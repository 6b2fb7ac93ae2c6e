// Package otelx holds what fosite asks of github.com/ory/x/otelx.
package otelx

import (
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// End ends span and marks it failed when *err is set.
func End(span trace.Span, err *error) {
	if err != nil && *err != nil {
		span.SetStatus(codes.Error, "failed")
		span.RecordError(*err)
	}
	span.End()
}
