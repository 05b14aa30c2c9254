package gateway

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/refitml/refit/internal/capture"
	"github.com/refitml/refit/internal/lifecycle"
)

// captured keeps what the gateway hands to capture.
type captured struct {
	mu           sync.Mutex
	interactions []lifecycle.Interaction
	feedback     []lifecycle.Feedback
	arrived      int
	shed         int
	err          error
}

func (c *captured) Arrived(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived++
}

func (c *captured) Shed(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shed++
}

// Mark and Loaded are as if every interaction were loaded at once.
func (c *captured) Mark() (m capture.Mark, ok bool) { return m, true }

func (c *captured) Loaded(capture.Mark) bool { return true }

func (c *captured) Interaction(i lifecycle.Interaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interactions = append(c.interactions, i)
}

func (c *captured) Feedback(_ context.Context, f lifecycle.Feedback) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.feedback = append(c.feedback, f)
	}
	return c.err
}

func (c *captured) last(t testing.TB) lifecycle.Interaction {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NotEmpty(t, c.interactions)
	return c.interactions[len(c.interactions)-1]
}
