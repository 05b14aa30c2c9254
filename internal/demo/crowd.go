package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/refitml/refit/internal/lifecycle"
)

// Crowd is the users of a run: several clients that ask real questions through the gateway until they are told to
// stop, and say what they think of the answers.
type Crowd struct {
	Gateway   string // base address
	Service   string
	Traffic   Traffic
	Questions []Question
	HTTP      *http.Client
	Log       *slog.Logger

	mu    sync.Mutex
	tally Tally
}

// Tally is what the users saw, counted on their side.
type Tally struct {
	Conversations int
	LongestTurns  int
	Keyless       int // conversations without a key
	Requests      int
	Answered      int
	Streamed      int
	Canceled      int
	Withheld      int // answers that the release's rules put a notice in place of
	Turned        int // told to come back later (429, 503)
	Failed        int
	ByRelease     map[lifecycle.Digest]int
	Thumbs        map[string]int
}

// reasonOffTopic is what a person says with a thumb down, as a code.
const reasonOffTopic = "not-in-documentation"

// maxCorrection bounds what a person writes of the documentation, in bytes.
const maxCorrection = 400

// Run sends users until ctx ends.
func (c *Crowd) Run(ctx context.Context) {
	c.Traffic = c.Traffic.withDefaults()
	var people sync.WaitGroup
	for number := range c.Traffic.Clients {
		people.Go(func() { c.live(ctx, number) })
	}
	people.Wait()
}

// Tally gives the counts so far.
func (c *Crowd) Tally() Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally
	t.ByRelease, t.Thumbs = maps.Clone(t.ByRelease), maps.Clone(t.Thumbs)
	return t
}

func (c *Crowd) count(change func(*Tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tally.Thumbs == nil {
		c.tally.Thumbs, c.tally.ByRelease = map[string]int{}, map[lifecycle.Digest]int{}
	}
	change(&c.tally)
}

// live is one client: one conversation after another.
func (c *Crowd) live(ctx context.Context, number int) {
	person := newPerson(c.Traffic, c.Questions, number)
	client := chatClient{http: c.HTTP, gateway: c.Gateway, service: c.Service, bearer: fmt.Sprintf("demo-client-%d", number)}
	for ctx.Err() == nil {
		plan := person.plan()
		c.count(func(t *Tally) {
			t.Conversations++
			if !plan.Keyed {
				t.Keyless++
			}
		})
		c.converse(ctx, client, plan, number)
	}
}

// converse holds one conversation. It ends early when an answer does not come or the client leaves.
func (c *Crowd) converse(ctx context.Context, client chatClient, plan Conversation, number int) {
	var messages []Message
	key := ""
	for i, turn := range plan.Turns {
		if wait(ctx, turn.Pause) != nil {
			return
		}
		messages = append(messages, Message{"user", turn.Question.Text})
		reply, err := client.ask(ctx, messages, key, turn.Stream, turn.Cancel)
		if ctx.Err() != nil {
			return // the run is over; what was cut off says nothing
		}
		c.note(turn, i+1, reply, err)
		if err != nil || reply.Status != http.StatusOK {
			if err != nil {
				c.Log.Warn("a client got no answer", "client", number, "error", err)
			}
			_ = wait(ctx, time.Second)
			return
		}
		if reply.Canceled {
			return
		}
		messages = append(messages, Message{"assistant", reply.Text})
		if plan.Keyed {
			key = reply.Key
		}
		c.react(ctx, client, turn, reply, number)
	}
}

func (c *Crowd) note(turn Turn, turns int, reply Reply, err error) {
	c.count(func(t *Tally) {
		t.Requests++
		t.LongestTurns = max(t.LongestTurns, turns)
		switch {
		case err != nil:
			t.Failed++
			return
		case reply.Status == http.StatusTooManyRequests || reply.Status == http.StatusServiceUnavailable:
			t.Turned++
			return
		case reply.Status != http.StatusOK:
			t.Failed++
			return
		case reply.Canceled:
			t.Canceled++
		case reply.Finish == "content_filter":
			t.Withheld++
		default:
			t.Answered++
		}
		if turn.Stream {
			t.Streamed++
		}
		t.ByRelease[reply.Release]++
	})
}

// knowing: every so manieth client knows the documentation and also says what stands there.
const knowing = 4

// react gives the thumb that follows from the answer's score.
func (c *Crowd) react(ctx context.Context, client chatClient, turn Turn, reply Reply, number int) {
	score, ok := Score(reply.Text, turn.Question.Documented)
	if reply.Finish == "content_filter" {
		score, ok = 0, true // who asked and was told nothing is not content
	}
	if !ok {
		return
	}
	said := []lifecycle.Feedback{{Interaction: reply.Interaction, Kind: c.Traffic.Thumb(score)}}
	switch said[0].Kind {
	case "":
		return
	case "thumbs-down":
		said[0].Reason = reasonOffTopic
		if number%knowing == 0 {
			said = append(said, lifecycle.Feedback{
				Interaction: reply.Interaction, Kind: "correction", Reason: reasonOffTopic,
				Correction: clip(turn.Question.Documented, maxCorrection),
			})
		}
	}
	for _, f := range said {
		if err := client.feedback(ctx, f); err != nil {
			if !errors.Is(err, context.Canceled) {
				c.Log.Warn("feedback was not taken", "client", number, "error", err)
			}
			continue
		}
		c.count(func(t *Tally) { t.Thumbs[f.Kind]++ })
	}
}

// clip cuts a text before the word that no longer fits.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && text[cut] != ' ' && text[cut] != '\n' {
		cut--
	}
	return text[:cut]
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
