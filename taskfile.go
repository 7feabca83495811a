package anchor

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
)

const (
	maxTaskFile   = 1 << 20
	onFailedEvent = "onFailed"
)

// taskFile is the content of a task file. Its schema is reflected from these types, as that of parameters is.
type taskFile struct {
	Tasks []taskFileTask `json:"tasks" jsonschema:"required" jsonschema_description:"The tasks, each declared in Go under the same name."`
}

type taskFileTask struct {
	Name        string           `json:"name" jsonschema:"minLength=1,maxLength=200" jsonschema_description:"The name given to Define."`
	Description string           `json:"description,omitempty" jsonschema:"maxLength=4096" jsonschema_description:"What the task does."`
	Queue       string           `json:"queue,omitempty" jsonschema:"minLength=1,maxLength=100" jsonschema_description:"The queue, by default the one declared in Go."`
	Priority    int              `json:"priority,omitempty" jsonschema:"minimum=-100,maximum=100" jsonschema_description:"The place within the queue: lower runs first."`
	Parameters  map[string]any   `json:"parameters,omitempty" jsonschema_description:"The JSON Schema of the parameters. It may be left out; otherwise it must say what the Go type says."`
	RetryPolicy *taskFileRetry   `json:"retryPolicy,omitempty" jsonschema_description:"When a failed task is tried again."`
	Timeout     string           `json:"timeout,omitempty" jsonschema_description:"The bound of one attempt, such as 30s."`
	Cronjob     *taskFileCronjob `json:"cronjob,omitempty" jsonschema_description:"When the task runs by itself."`
	Events      []string         `json:"events,omitempty" jsonschema:"uniqueItems=true,enum=onFailed" jsonschema_description:"The hooks that the task has in Go."`
}

type taskFileRetry struct {
	Interval    string `json:"interval,omitempty" jsonschema_description:"One duration, such as 5m, or a list whose last entry repeats: 1m,2m,4m."`
	MaxAttempts int    `json:"maxAttempts,omitempty" jsonschema_description:"How often the task is tried at most, the first try included; -1 is unlimited."`
}

type taskFileCronjob struct {
	CronExpression string `json:"cronExpression" jsonschema_description:"Five fields, six with seconds first, or a descriptor such as @daily."`
	TimeZone       string `json:"timeZone,omitempty" jsonschema_description:"A name of the IANA database, such as Europe/Berlin, by default the one declared in Go, or UTC."`
}

// taskFileSchema describes a task file. It panics for nothing but a mistake in the types above, which every test finds.
var taskFileSchema = sync.OnceValue(func() *paramsSchema {
	schema, err := newParamsSchema(reflect.TypeFor[taskFile]())
	if err == nil {
		err = schema.compile()
	}
	if err != nil {
		panic(err)
	}
	return schema
})

// TaskFileSchema returns the JSON Schema (draft 2020-12) of the file that [WithTaskFile] reads, for editors. The bytes
// are the caller's own.
func TaskFileSchema() []byte {
	node, err := taskFileSchema().node()
	if err != nil {
		panic(err) // it has been read before
	}
	return append(appendJSON(nil, node, ""), '\n')
}

// WithTaskFile reads tasks.yaml, as [Client.ExportYAML] writes it and operators change it. What it sets for a task
// (description, queue, priority, retryPolicy, timeout, cronjob) overrides the declaration in Go; what it leaves out
// does not, and options of a Run override both. [New] checks the whole file first: against [TaskFileSchema], and each
// task against its Go declaration. It must name registered tasks alone, each once; the parameters may be left out,
// and must say what the Go type says otherwise. Every mistake is reported, as a [*TaskFileError], in the order of the
// file. The file is read once, and has at most 1 MiB. Defaults to none; at most one may be given.
func WithTaskFile(path string) ClientOption {
	return clientOption{
		text: fmt.Sprintf("WithTaskFile(%q)", path),
		set: func(o *clientOptions) error {
			switch {
			case path == "":
				return errors.New("the path is empty")
			case o.taskFile != "":
				return fmt.Errorf("there is a task file already, %q", o.taskFile)
			}
			o.taskFile = path
			return nil
		},
	}
}

// TaskFileError is one mistake in a task file.
type TaskFileError struct {
	// Path is the file's, as given to [WithTaskFile].
	Path string
	// Line and Column count from 1. They are 0 for a mistake of the file as a whole.
	Line, Column int
	// Pointer is the place within the document, such as "tasks/3/timeout". It is "" for the whole.
	Pointer string
	// Message says what is wrong.
	Message string
}

// Error writes "tasks.yaml:12:5: tasks/3/timeout: ...".
func (e *TaskFileError) Error() string {
	text := e.Path
	if e.Line > 0 {
		text += fmt.Sprintf(":%d:%d", e.Line, e.Column)
	}
	if e.Pointer != "" {
		text += ": " + e.Pointer
	}
	return text + ": " + e.Message
}
