package anchortest

// LimitDrain makes one Drain end after fewer attempts.
func (h *Harness) LimitDrain(attempts int) { h.most = attempts }
