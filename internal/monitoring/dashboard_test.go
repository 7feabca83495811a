package monitoring

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// dashboard is what the test looks at of Grafana's model.
type dashboard struct {
	Title         string  `json:"title"`
	UID           string  `json:"uid"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Templating    struct {
		List []struct {
			Name       string `json:"name"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
}

type panel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	Targets []struct {
		RefID string `json:"refId"`
		Expr  string `json:"expr"`
	} `json:"targets"`
	GridPos struct{ X, Y, W, H int } `json:"gridPos"`
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(readFile(t, dashboardFile), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// panels are the expressions of the panels and of the variables, as Grafana fills them in.
func panels(t *testing.T) map[string]string {
	t.Helper()
	d := readDashboard(t)
	fill := strings.NewReplacer("$__rate_interval", "5m", "$queue", ".*", "$task", ".*")
	expressions := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			expressions[fmt.Sprintf("panel %q %s", p.Title, target.RefID)] = fill.Replace(target.Expr)
		}
	}
	values := regexp.MustCompile(`^label_values\((\w+), (\w+)\)$`)
	for _, variable := range d.Templating.List {
		if match := values.FindStringSubmatch(variable.Definition); match != nil {
			expressions["variable "+variable.Name] = fmt.Sprintf("count by (%s) (%s)", match[2], match[1])
		}
	}
	return expressions
}

func TestDashboardIsWellFormed(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if d.Title != "anchor" || d.UID != "anchor" || d.SchemaVersion == 0 || len(panels(t)) < 15 {
		t.Errorf("title %q, uid %q, schema version %d, %d expressions", d.Title, d.UID, d.SchemaVersion, len(panels(t)))
	}
	ids := map[int]string{}
	for i, p := range d.Panels {
		if other, taken := ids[p.ID]; taken {
			t.Errorf("panels %q and %q have the id %d", other, p.Title, p.ID)
		}
		ids[p.ID] = p.Title
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q has no target", p.Title)
		}
		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q overlap", p.Title, other.Title)
			}
		}
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, variable := range d.Templating.List {
		variables[variable.Name] = true
	}
	for _, name := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(readFile(t, dashboardFile)), -1) {
		if !variables[name[1]] && name[1] != "__all" {
			t.Errorf("the variable $%s is not declared", name[1])
		}
	}
}
