package anchor

import (
	"container/heap"
	"time"
)

// memoryTag is one state of a unique tag: who holds it and how long.
type memoryTag struct {
	tag       string
	id        int64 // 0: an open transaction has freed it
	whileLive bool
	until     time.Time // of UniqueFor

	// While the transaction that wrote this state is open:
	tx     *memoryTx
	before *memoryTag // nil: nobody held it
}

// takeTag takes the tag for t within tx. When another transaction has to end before it can be told whether
// the tag is free, that one is returned.
func (s *MemoryStore) takeTag(tx *memoryTx, t *memoryTask, scope UniqueScope, now time.Time) (*memoryTx, error) {
	before := s.tags[t.tag]
	if before != nil {
		if before.tx != nil && before.tx != tx {
			return before.tx, nil
		}
		if before.id == t.id {
			return nil, nil
		}
		if s.tagHeld(before, now) {
			return nil, &TaskExistsError{Tag: t.tag, ID: before.id}
		}
	}
	after := &memoryTag{tag: t.tag, id: t.id, whileLive: scope.whileLive, tx: tx, before: before}
	if scope.duration > 0 {
		after.until = now.Add(scope.duration)
	}
	tx.record(tagChange{after}, now)
	return nil, nil
}

func (s *MemoryStore) tagHeld(h *memoryTag, now time.Time) bool {
	switch {
	case h.id == 0:
		return false
	case h.tx != nil: // of the transaction that asks, and so is its task
		return true
	case !h.whileLive && (h.until.IsZero() || now.Before(h.until)):
		return true
	}
	t := s.find(h.id)
	return t != nil && t.live()
}

// endsWith tells whether the end of its task frees the tag.
func (h *memoryTag) endsWith(t *memoryTask, now time.Time) bool {
	return h != nil && h.id == t.id && (h.whileLive || !h.until.IsZero() && !now.Before(h.until))
}

// freeTag frees the tag of a task that ends with tx, so that tx can give it to another.
func (s *MemoryStore) freeTag(tx *memoryTx, t *memoryTask, now time.Time) {
	if before := s.tags[t.tag]; before.endsWith(t, now) {
		tx.record(tagChange{&memoryTag{tag: t.tag, tx: tx, before: before}}, now)
	}
}

// releaseEnded frees the tag of a task that has ended.
func (s *MemoryStore) releaseEnded(t *memoryTask, now time.Time) {
	if t.tag != "" && s.tags[t.tag].endsWith(t, now) {
		delete(s.tags, t.tag)
	}
}

// releaseOutdated forgets tags whose time is over and whose task has ended. That of a live one is freed when
// it ends.
func (s *MemoryStore) releaseOutdated(now time.Time) {
	for len(s.expiring) > 0 && !now.Before(s.expiring[0].until) {
		h := heap.Pop(&s.expiring).(*memoryTag)
		if s.tags[h.tag] == h && !s.tagHeld(h, now) {
			delete(s.tags, h.tag)
		}
	}
}

// committed is the state that others see, nil when nobody holds the tag.
func (h *memoryTag) committed() *memoryTag {
	for h != nil && h.tx != nil {
		h = h.before
	}
	return h
}

// tagChange is one change of a tag in a transaction.
type tagChange struct{ *memoryTag }

func (c tagChange) do(s *MemoryStore, _ time.Time) { s.tags[c.tag] = c.memoryTag }

func (c tagChange) undo(s *MemoryStore, now time.Time) {
	if c.before == nil || !s.tagHeld(c.before, now) && c.before.tx == nil { // its task may have ended meanwhile
		delete(s.tags, c.tag)
		return
	}
	s.tags[c.tag] = c.before
}

func (c tagChange) commit(s *MemoryStore, _ time.Time) {
	c.tx, c.before = nil, nil
	switch {
	case s.tags[c.tag] != c.memoryTag: // changed again since
	case c.id == 0:
		delete(s.tags, c.tag)
	case !c.until.IsZero():
		heap.Push(&s.expiring, c.memoryTag)
	}
}

// tagHeap is a heap.Interface of tags by the time at which they expire.
type tagHeap []*memoryTag

func (h tagHeap) Len() int           { return len(h) }
func (h tagHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h tagHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *tagHeap) Push(x any)        { *h = append(*h, x.(*memoryTag)) }
func (h *tagHeap) Pop() any {
	last := len(*h) - 1
	tag := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return tag
}
