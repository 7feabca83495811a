package anchor

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// ExportYAML writes the tasks of the client, in order of their names, in the format of [WithTaskFile]: each with the
// JSON Schema of its parameters and its policy, as a task file has left it. The same tasks give the same bytes, in any
// process. It does not touch the store.
func (c *Client) ExportYAML(w io.Writer) error {
	tasks := &yaml.Node{Kind: yaml.SequenceNode, Tag: listTag}
	for _, name := range slices.Sorted(maps.Keys(c.tasks)) {
		node, err := c.tasks[name].exportNode()
		if err != nil {
			return fmt.Errorf("anchor: exporting task %q: %w", name, err)
		}
		tasks.Content = append(tasks.Content, node)
	}
	text, err := yaml.Dump(mappingNode("tasks", tasks), yaml.WithIndent(2), yaml.WithCompactSeqIndent(false), yaml.WithLineWidth(-1))
	if err != nil {
		return fmt.Errorf("anchor: exporting the tasks: %w", err)
	}
	_, err = w.Write(text)
	return err
}

func (r *registeredTask) exportNode() (*yaml.Node, error) {
	parameters, err := r.schema.node()
	if err != nil {
		return nil, err
	}
	dropSchemaVersion(parameters)
	var description, queue, priority, cronjob, events *yaml.Node
	// What is the default is left out, unless the file has set it against the declaration: it must load as it is.
	if r.description != r.options.description || r.description != "" {
		description = stringNode(r.description)
	}
	if r.policy.queue != r.options.queue || r.policy.queue != defaultQueue {
		queue = stringNode(r.policy.queue)
	}
	if r.policy.priority != r.options.priority || r.policy.priority != 0 {
		priority = scalarNode(intTag, strconv.Itoa(r.policy.priority))
	}
	if r.cron != nil {
		var zone *yaml.Node
		declared := r.taskDefinition.cron
		if r.cron.timeZone != defaultTimeZone || declared != nil && declared.timeZone != r.cron.timeZone {
			zone = stringNode(r.cron.timeZone)
		}
		cronjob = mappingNode("cronExpression", stringNode(r.cron.expression), "timeZone", zone)
	}
	if r.onFailed != nil || r.webhook != nil {
		events = &yaml.Node{Kind: yaml.SequenceNode, Tag: listTag, Content: []*yaml.Node{stringNode(onFailedEvent)}}
	}
	return mappingNode(
		"name", stringNode(r.name),
		"description", description,
		"queue", queue,
		"priority", priority,
		"parameters", parameters,
		"retryPolicy", mappingNode(
			"interval", stringNode(r.policy.retry.text),
			"maxAttempts", scalarNode(intTag, strconv.Itoa(r.policy.maxAttempts)),
		),
		"timeout", stringNode(shortDuration(r.policy.timeout)),
		"cronjob", cronjob,
		"events", events,
	), nil
}

// dropSchemaVersion leaves "$schema" out: it is the same for all.
func dropSchemaVersion(schema *yaml.Node) {
	if len(schema.Content) > 1 && schema.Content[0].Value == "$schema" {
		schema.Content = schema.Content[2:]
	}
}

// shortDuration writes "1h" where [time.Duration.String] writes "1h0m0s".
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
