//go:build chaos

package anchor

import "github.com/anchor-go/anchor/internal/chaos/pause"

func pauseAt(point pausePoint, attempt int32) error { return pause.At(string(point), int(attempt)) }
