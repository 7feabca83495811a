package anchor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

const (
	maxTaskFileDepth = 100
	// maxAliased bounds the values that aliases make of a file.
	maxAliased = 100_000
)

// taskFileReader collects a file's mistakes, and knows where in it everything is.
type taskFileReader struct {
	path string
	root *yaml.Node
	errs []*TaskFileError
	// failed are the pointers of the mistakes, and of what is around them.
	failed   map[string]bool
	reported map[TaskFileError]bool

	within  []string     // the way to the node that is read
	around  []*yaml.Node // the collections on that way
	aliases int          // of these
	aliased int          // values read through aliases
}

type filePosition struct{ line, column int }

// readBounded reads a regular file of at most maxTaskFile bytes.
func readBounded(path string) ([]byte, error) {
	reason := func(err error) error {
		var inPath *os.PathError
		if errors.As(err, &inPath) {
			err = inPath.Err
		}
		return fmt.Errorf("the task file cannot be read: %w", err)
	}
	info, err := os.Stat(path) // before it is opened: opening a pipe waits
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("the task file is no regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxTaskFile+1))
	switch {
	case err != nil:
		return nil, reason(err)
	case len(text) > maxTaskFile:
		return nil, fmt.Errorf("the task file has more than %d bytes", maxTaskFile)
	}
	return text, nil
}

// parse reads YAML into a tree of JSON values. Nothing but r's mistakes counts when there are any.
func (r *taskFileReader) parse(text []byte) (tree any) {
	defer func() {
		if p := recover(); p != nil {
			r.fail(filePosition{}, "", "the YAML cannot be read: %v", p)
			tree = nil
		}
	}()
	var documents []yaml.Node
	if err := yaml.Load(text, &documents, yaml.WithAllDocuments()); err != nil {
		r.failSyntax(err)
		return nil
	}
	switch {
	case len(documents) == 0 || len(documents[0].Content) == 0:
		r.fail(filePosition{}, "", "the task file is empty")
		return nil
	case len(documents) > 1:
		r.fail(positionOf(&documents[1]), "", "a second document begins; a task file has one")
		return nil
	}
	r.root = documents[0].Content[0]
	tree = r.value(r.root)
	if len(r.errs) > 0 {
		return nil // what cannot be read cannot be judged
	}
	return tree
}

func positionOf(node *yaml.Node) filePosition { return filePosition{node.Line, node.Column} }

func (r *taskFileReader) failSyntax(err error) {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		r.fail(filePosition{}, "", "the YAML cannot be read: %v", err)
		return
	}
	message := load.Message
	if load.ContextMsg != "" {
		message = load.ContextMsg + ": " + message
	}
	r.fail(filePosition{load.Mark.Line, load.Mark.Column}, "", "%s", message)
}

// fail records a mistake. pointer is a JSON pointer.
func (r *taskFileReader) fail(at filePosition, pointer, format string, args ...any) {
	e := &TaskFileError{
		Path: r.path, Line: at.line, Column: at.column,
		Pointer: strings.TrimPrefix(pointer, "/"), Message: fmt.Sprintf(format, args...),
	}
	if r.reported[*e] {
		return
	}
	if r.reported == nil {
		r.reported, r.failed = map[TaskFileError]bool{}, map[string]bool{}
	}
	r.reported[*e] = true
	r.errs = append(r.errs, e)
	for outer := pointer; outer != "" && !r.failed[outer]; outer = outer[:strings.LastIndexByte(outer, '/')] {
		r.failed[outer] = true
	}
}

// failAt records a mistake where pointer is, or where the nearest thing around it is.
func (r *taskFileReader) failAt(pointer, format string, args ...any) {
	r.fail(r.locate(pointer), pointer, format, args...)
}

// locate finds a JSON pointer in the file: the key of a member, the beginning of an item.
func (r *taskFileReader) locate(pointer string) filePosition {
	node := r.root
	if node == nil {
		return filePosition{}
	}
	at := positionOf(node)
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		if node.Kind == yaml.AliasNode && node.Alias != nil {
			node = node.Alias
		}
		var next *yaml.Node
		switch node.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(node.Content); i += 2 {
				if keyOf(node.Content[i]).Value == token {
					at, next = positionOf(node.Content[i]), node.Content[i+1]
					break
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(node.Content) {
				at, next = positionOf(node.Content[i]), node.Content[i]
			}
		}
		if next == nil {
			break
		}
		node = next
	}
	return at
}

func keyOf(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}

// sorted returns the mistakes in the order of the file.
func (r *taskFileReader) sorted() []error {
	slices.SortFunc(r.errs, func(a, b *TaskFileError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Message, b.Message))
	})
	errs := make([]error, len(r.errs))
	for i, err := range r.errs {
		errs[i] = err
	}
	return errs
}

// errTooLarge ends the reading of a file that is no task file.
var errTooLarge = fmt.Errorf("it nests deeper than %d, or its aliases make more than %d values of it", maxTaskFileDepth, maxAliased)

// value turns a node into a JSON value, following aliases. It panics with errTooLarge.
func (r *taskFileReader) value(node *yaml.Node) any {
	if r.aliases > 0 {
		r.aliased++
	}
	if r.aliased > maxAliased || len(r.within) > maxTaskFileDepth || r.aliases > maxTaskFileDepth {
		panic(errTooLarge)
	}
	switch node.Kind {
	case yaml.AliasNode:
		if node.Alias == nil || slices.Contains(r.around, node.Alias) {
			r.fail(positionOf(node), pointerOf(r.within), "the alias *%s stands within itself", node.Value)
			return nil
		}
		r.aliases++
		defer func() { r.aliases-- }()
		return r.value(node.Alias)
	case yaml.MappingNode, yaml.SequenceNode:
		r.around = append(r.around, node)
		defer func() { r.around = r.around[:len(r.around)-1] }()
		if node.Kind == yaml.MappingNode {
			return r.mapping(node)
		}
		list := make([]any, 0, len(node.Content))
		for i, item := range node.Content {
			list = append(list, r.inner(strconv.Itoa(i), item))
		}
		return list
	}
	value, err := scalarValue(node)
	if err != nil {
		r.fail(positionOf(node), pointerOf(r.within), "%v", err)
	}
	return value
}

// inner reads a member or an item.
func (r *taskFileReader) inner(token string, node *yaml.Node) any {
	r.within = append(r.within, token)
	defer func() { r.within = r.within[:len(r.within)-1] }()
	return r.value(node)
}

func (r *taskFileReader) mapping(node *yaml.Node) any {
	object := make(map[string]any, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := keyOf(node.Content[i])
		if key.Kind != yaml.ScalarNode {
			r.fail(positionOf(node.Content[i]), pointerOf(r.within), "a key must be text")
			continue
		}
		if _, double := object[key.Value]; double {
			r.fail(positionOf(node.Content[i]), pointerOf(append(slices.Clone(r.within), key.Value)), "the key stands here twice")
			continue
		}
		object[key.Value] = r.inner(key.Value, node.Content[i+1])
	}
	return object
}

// scalarValue reads a scalar as YAML resolves it. Dates and the like are text.
func scalarValue(node *yaml.Node) (any, error) {
	switch node.ShortTag() {
	case nullTag:
		return nil, nil
	case boolTag:
		var b bool
		if err := node.Decode(&b); err != nil {
			return nil, errors.New("is not true or false")
		}
		return b, nil
	case intTag, floatTag:
		return numberValue(node)
	case stringTag, "!!timestamp", "!!merge":
		return node.Value, nil
	}
	return nil, fmt.Errorf("the tag %q is not supported", node.Tag)
}

// numberValue keeps the digits of what is a number in JSON, too, and reads what only YAML knows, such as 0x10.
func numberValue(node *yaml.Node) (any, error) {
	if json.Valid([]byte(node.Value)) && strings.ContainsAny(node.Value[:1], "-0123456789") {
		return json.Number(node.Value), nil
	}
	var number any
	if err := node.Decode(&number); err != nil {
		return nil, errors.New("is not a number")
	}
	switch n := number.(type) {
	case int, int64, uint64:
		return json.Number(fmt.Sprint(n)), nil
	case float64:
		if !math.IsNaN(n) && !math.IsInf(n, 0) {
			return json.Number(strconv.FormatFloat(n, 'g', -1, 64)), nil
		}
	}
	return nil, errors.New("is not a number that JSON can hold")
}
