package anchor

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// applyTaskFile overrides the policies of the registered tasks by what the file says. On any mistake it changes
// nothing and returns all mistakes.
func (c *Client) applyTaskFile(path string) []error {
	text, err := readBounded(path)
	if err != nil {
		return []error{&TaskFileError{Path: path, Message: err.Error()}}
	}
	return c.applyTaskText(path, text)
}

func (c *Client) applyTaskText(path string, text []byte) []error {
	r := &taskFileReader{path: path}
	tree := r.parse(text)
	if len(r.errs) > 0 {
		return r.sorted()
	}
	r.checkShape(tree)
	overrides := map[*registeredTask]*taskFileEntry{}
	taken := map[string]string{}
	document, _ := tree.(map[string]any)
	tasks, _ := document["tasks"].([]any)
	for i, task := range tasks {
		members, ok := task.(map[string]any)
		if !ok {
			continue
		}
		e := &taskFileEntry{reader: r, pointer: fmt.Sprintf("/tasks/%d", i), members: members}
		name, ok := members["name"].(string)
		if !ok {
			continue
		}
		if first, double := taken[name]; double {
			e.fail("name", "the task %q stands at %s already", name, first)
			continue
		}
		taken[name] = strings.TrimPrefix(e.pointer, "/")
		registered, known := c.tasks[name]
		if !known {
			if name != "" {
				e.fail("name", "no task %q is registered%s", name, nearestHint(name, slices.Sorted(maps.Keys(c.tasks))))
			}
			continue
		}
		if registered.schema == nil || registered.schema.full == nil {
			continue // its declaration is at fault, and reported
		}
		e.read(registered)
		overrides[registered] = e
	}
	if len(r.errs) > 0 {
		return r.sorted()
	}
	for registered, e := range overrides {
		registered.policy, registered.description, registered.inFile = e.options.taskPolicy, e.options.description, true
		if e.cronjob != nil {
			registered.cron = e.cronjob
		}
	}
	return nil
}

// checkShape validates the file by its schema.
func (r *taskFileReader) checkShape(tree any) {
	for _, violation := range validateValue(taskFileSchema().full.whole, tree) {
		if violation.Message == notAField {
			i := strings.LastIndexByte(violation.Pointer, '/')
			key := strings.NewReplacer("~1", "/", "~0", "~").Replace(violation.Pointer[i+1:])
			r.failAt(violation.Pointer, "unknown key %q%s", key, nearestHint(key, taskFileKeys(violation.Pointer[:i])))
			continue
		}
		r.failAt(violation.Pointer, "%s", violation.Message)
	}
}

// taskFileKeys are the keys that may stand in the object at pointer.
func taskFileKeys(pointer string) []string {
	within := reflect.TypeFor[taskFile]()
	switch depth := strings.Count(pointer, "/"); {
	case depth == 2:
		within = reflect.TypeFor[taskFileTask]()
	case strings.HasSuffix(pointer, "/retryPolicy"):
		within = reflect.TypeFor[taskFileRetry]()
	case strings.HasSuffix(pointer, "/cronjob"):
		within = reflect.TypeFor[taskFileCronjob]()
	}
	var keys []string
	for _, field := range jsonFields(within) {
		keys = append(keys, field.name)
	}
	return keys
}

// taskFileEntry is what the file says of one task.
type taskFileEntry struct {
	reader  *taskFileReader
	pointer string
	members map[string]any
	options taskOptions
	cronjob *declaredCron
}

// fail records a mistake at a member of the entry, unless the schema has found one there.
func (e *taskFileEntry) fail(member, format string, args ...any) {
	pointer := e.pointer + "/" + member
	if !e.reader.failed[pointer] {
		e.reader.failAt(pointer, format, args...)
	}
}

// read checks the entry against its task and works out the options that it leads to. Values of another type than the
// schema's are passed over here.
func (e *taskFileEntry) read(r *registeredTask) {
	e.options = r.options
	e.options.taskPolicy, e.options.description = r.policy, r.description
	set := func(member string, opt TaskOption) {
		if err := opt.applyTask(&e.options); err != nil {
			e.fail(member, "%v", err)
		}
	}
	if text, ok := e.members["description"].(string); ok {
		set("description", WithDescription(text))
	}
	if text, ok := e.members["queue"].(string); ok {
		set("queue", WithQueue(text))
	}
	if n, ok := intOf(e.members["priority"]); ok {
		set("priority", WithPriority(n))
	}
	if text, ok := e.members["timeout"].(string); ok {
		set("timeout", WithTimeout(text))
	}
	if retry, ok := e.members["retryPolicy"].(map[string]any); ok {
		interval, isText := retry["interval"].(string)
		if isText {
			set("retryPolicy/interval", WithRetryPolicy(interval, e.options.maxAttempts))
		}
		if n, ok := intOf(retry["maxAttempts"]); ok {
			set("retryPolicy/maxAttempts", WithRetryPolicy(e.options.retry.text, n))
		}
	}
	e.readCronjob(r)
	e.readEvents(r)
	if parameters, ok := e.members["parameters"].(map[string]any); ok {
		e.readParameters(r, parameters)
	}
}

func (e *taskFileEntry) readCronjob(r *registeredTask) {
	cronjob, ok := e.members["cronjob"].(map[string]any)
	if !ok {
		return
	}
	expression, ok := cronjob["cronExpression"].(string)
	if !ok {
		return
	}
	job := declaredCron{timeZone: defaultTimeZone, options: cronOptions{timeZone: defaultTimeZone, catchUp: CatchUpOne, enabled: true}}
	if r.cron != nil {
		job = *r.cron
	} else {
		// Only Go can give an instance its parameters.
		job.params = reflect.New(r.taskDefinition.params).Interface()
		if _, err := r.newTask(job.params, &runOptions{taskPolicy: r.policy}); err != nil {
			e.fail("cronjob", "the task has no schedule in Go (Cron), and its parameters cannot be left empty")
			return
		}
	}
	job.expression = expression
	valid := true
	if zone, ok := cronjob["timeZone"].(string); ok && zone != "" {
		job.timeZone, job.options.timeZone = zone, zone
		if _, err := loadCronZone(zone); err != nil {
			valid = false
			e.fail("cronjob/timeZone", "%v", err)
		}
	}
	if _, err := parseCronExpression(expression, defaultTimeZone); err != nil {
		valid = false
		e.fail("cronjob/cronExpression", "%v", err)
	}
	if !valid {
		return
	}
	e.cronjob = &job
}

func (e *taskFileEntry) readEvents(r *registeredTask) {
	events, _ := e.members["events"].([]any)
	for i, event := range events {
		if event == onFailedEvent && r.onFailed == nil && r.webhook == nil {
			e.fail(fmt.Sprintf("events/%d", i), "the task has no failure hook in Go (OnFailed, WebhookOnFailed)")
		}
	}
}

func (e *taskFileEntry) readParameters(r *registeredTask, parameters map[string]any) {
	document, err := r.schema.document()
	if err != nil {
		e.fail("parameters", "%v", err)
		return
	}
	d := schemaDiffer{
		declaredRoot: document, writtenRoot: parameters, typeName: r.params.String(),
		report: func(pointer, message string) { e.reader.failAt(e.pointer+"/parameters"+pointer, "%s", message) },
	}
	d.diff(document, parameters, "", 0)
}

// intOf reads a JSON number that is an integer, however it is written.
func intOf(value any) (int, bool) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	rat, ok := ratOfNumber(number)
	if !ok || !rat.IsInt() || !rat.Num().IsInt64() {
		return 0, false
	}
	return int(rat.Num().Int64()), true
}
