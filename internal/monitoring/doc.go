// Package monitoring checks docs/alerts.yaml and docs/grafana.json against the metrics of anchor, with the parser, the rule
// format and the engine of Prometheus itself. It is a module of its own, so that these stay out of the library's go.sum.
package monitoring
