package anchor

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// WithUpcaster mends parameters that were stored for an older version of the task's type. It is called with stored
// parameters that no longer decode or that today's schema forbids, before the task fails for that, and answers what
// they are to be today, which is then decoded and validated in turn; what is stored stays as it is. An error fails
// the task for good. It must not keep or change old, and may be called concurrently. Defaults to none.
func WithUpcaster(upcast func(old json.RawMessage) (json.RawMessage, error)) TaskOption {
	return taskOption{
		text: "WithUpcaster",
		set: func(o *taskOptions) error {
			if upcast == nil {
				return errors.New("the function is nil")
			}
			o.upcaster = upcast
			return nil
		},
	}
}

func callUpcaster(upcast func(old json.RawMessage) (json.RawMessage, error), raw []byte) (upcasted []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			upcasted, err = nil, fmt.Errorf("the upcaster panicked: %v", r)
		}
	}()
	upcasted, err = upcast(slices.Clone(raw))
	if err != nil {
		return nil, fmt.Errorf("the upcaster: %w", err)
	}
	return upcasted, nil
}
