package monitoring

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/anchor-go/anchor"
)

const (
	alertsFile    = "../../docs/alerts.yaml"
	dashboardFile = "../../docs/grafana.json"
)

// registerer notes what is registered.
type registerer struct {
	*prometheus.Registry
	collectors []prometheus.Collector
}

func (r *registerer) Register(c prometheus.Collector) error {
	r.collectors = append(r.collectors, c)
	return r.Registry.Register(c)
}

var description = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// metric is what expressions may ask of one.
type metric struct {
	labels    []string
	histogram bool
}

// exported are the metrics that a client exposes, by name.
func exported(t *testing.T) map[string]metric {
	t.Helper()
	r := &registerer{Registry: prometheus.NewRegistry()}
	task := anchor.Define[struct{}]("Any", nil) // with a task, there are histograms to tell by their type
	if _, err := anchor.New(anchor.NewMemoryStore(), anchor.WithTasks(task), anchor.WithRegisterer(r)); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	histograms := map[string]bool{}
	for _, family := range families {
		histograms[family.GetName()] = family.GetType() == dto.MetricType_HISTOGRAM
	}
	metrics := map[string]metric{}
	for _, c := range r.collectors {
		descs := make(chan *prometheus.Desc, 100)
		c.Describe(descs)
		close(descs)
		for desc := range descs {
			match := description.FindStringSubmatch(desc.String())
			if match == nil {
				t.Fatalf("a description that this test cannot read: %v", desc)
			}
			labels := strings.FieldsFunc(match[2], func(r rune) bool { return r == ',' })
			metrics[match[1]] = metric{labels, histograms[match[1]]}
		}
	}
	if len(metrics) < 15 {
		t.Fatalf("%d metrics: %v", len(metrics), metrics)
	}
	return metrics
}

// targetLabels are what Prometheus adds to every series.
var targetLabels = []string{"instance", "job"}

// checkExpression checks that every metric in an expression exists and has the labels that are asked of it, and
// answers the metrics' names.
func checkExpression(metrics map[string]metric, text string) (used []string, err error) {
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		return nil, err
	}
	allowed := map[string]bool{}
	var asked []string
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			name := n.Name
			for _, suffix := range []string{"_bucket", "_count", "_sum"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && metrics[base].histogram {
					name = base
				}
			}
			own, exists := metrics[name]
			if !exists {
				err = fmt.Errorf("no metric is named %s", n.Name)
				return nil
			}
			used = append(used, name)
			known := append(slices.Clone(own.labels), targetLabels...)
			if name != n.Name {
				known = append(known, "le")
			}
			for _, label := range known {
				allowed[label] = true
			}
			for _, matcher := range n.LabelMatchers {
				if matcher.Name != model.MetricNameLabel && !slices.Contains(known, matcher.Name) {
					err = fmt.Errorf("%s has no label %s, but %v", n.Name, matcher.Name, known)
				}
			}
		case *parser.AggregateExpr:
			asked = append(asked, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				asked = append(asked, n.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
	for _, label := range asked {
		if !allowed[label] && err == nil {
			err = fmt.Errorf("it groups by %s, which no metric in it has", label)
		}
	}
	return used, err
}

func TestCheckExpressionFindsMistakes(t *testing.T) {
	t.Parallel()
	metrics := map[string]metric{"good_total": {[]string{"task"}, false}, "slow_seconds": {[]string{"queue"}, true}}
	for text, want := range map[string]string{
		`sum by (task, instance) (rate(good_total{task="a"}[5m])) / 2`:                "",
		`histogram_quantile(0.9, sum by (queue, le) (rate(slow_seconds_bucket[5m])))`: "",
		`rate(bad_total[5m])`:                      "no metric is named bad_total",
		`good_total{queue="a"}`:                    "good_total has no label queue",
		`sum by (queue) (rate(good_total[5m]))`:    "groups by queue",
		`sum by (le) (good_total)`:                 "groups by le",
		`good_total_bucket`:                        "no metric is named good_total_bucket",
		`rate(good_total)`:                         "expected type range vector",
		`good_total and on (queue) good_total > 1`: "groups by queue",
	} {
		_, err := checkExpression(metrics, text)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// Whoever adds a metric says where it is looked at.
func TestEveryMetricIsLookedAt(t *testing.T) {
	t.Parallel()
	metrics := exported(t)
	looked := map[string]bool{}
	for what, text := range allExpressions(t) {
		used, err := checkExpression(metrics, text)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, name := range used {
			looked[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		if !looked[name] {
			t.Errorf("%s is neither in %s nor in %s", name, alertsFile, dashboardFile)
		}
	}
}

// allExpressions are those of alerts and panels, by where they stand.
func allExpressions(t *testing.T) map[string]string {
	t.Helper()
	expressions := map[string]string{}
	for name, alert := range alerts(t) {
		expressions["alert "+name] = alert.Expr
	}
	maps.Copy(expressions, panels(t))
	return expressions
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
