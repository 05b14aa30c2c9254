package demo

import (
	"math"
	"math/rand/v2"
	"time"
)

// Traffic says what the users of a run are like. The zero value works.
type Traffic struct {
	Clients  int           // people who ask at the same time; default 8
	Pause    time.Duration // that a person takes before a question, on average; default 250 ms
	Tail     float64       // of conversation lengths (Pareto's alpha): the smaller, the heavier; default 1.5
	MaxTurns int           // questions of one conversation at most; default 12
	Keyed    float64       // share of conversations that hand their key back; the others have none; default 0.8
	Streamed float64       // share of questions whose answer is streamed; default 0.5
	Canceled float64       // share of streamed answers that nobody waits for; default 0.1
	Seed     uint64
	Up       float64 // score from which a person is content; default 0.3
	Down     float64 // score up to which one complains; default 0.1
}

func (t Traffic) withDefaults() Traffic {
	setDefault(&t.Clients, 8)
	setDefault(&t.Pause, 250*time.Millisecond)
	setDefault(&t.Tail, 1.5)
	setDefault(&t.MaxTurns, 12)
	setDefault(&t.Keyed, 0.8)
	setDefault(&t.Streamed, 0.5)
	setDefault(&t.Canceled, 0.1)
	setDefault(&t.Up, 0.3)
	setDefault(&t.Down, 0.1)
	return t
}

// Turn is one question of a conversation.
type Turn struct {
	Question Question
	Pause    time.Duration // before it
	Stream   bool
	Cancel   bool // the person leaves after the first words
}

// Conversation is what one person means to ask.
type Conversation struct {
	Keyed bool
	Turns []Turn
}

// person plans the conversations of one client: equal seeds plan the same.
type person struct {
	traffic   Traffic
	questions []Question
	rng       *rand.Rand
}

func newPerson(t Traffic, questions []Question, number int) *person {
	return &person{t, questions, rand.New(rand.NewPCG(t.Seed, uint64(number)))}
}

// plan draws a conversation. Its length is 1 for most and long for few; questions after the first stay with the first
// one's subject as far as there are others about it.
func (p *person) plan() Conversation {
	c := Conversation{Keyed: p.rng.Float64() < p.traffic.Keyed}
	at := p.rng.IntN(len(p.questions))
	group := p.questions[at].Group
	for range p.length() {
		turn := Turn{
			Question: p.questions[at],
			Pause:    time.Duration(p.rng.ExpFloat64() * float64(p.traffic.Pause)),
			Stream:   p.rng.Float64() < p.traffic.Streamed,
		}
		turn.Cancel = turn.Stream && p.rng.Float64() < p.traffic.Canceled
		c.Turns = append(c.Turns, turn)
		if turn.Cancel {
			break
		}
		at = p.next(at, group)
	}
	return c
}

// length draws from Pareto's distribution, rounded down.
func (p *person) length() int {
	drawn := math.Pow(1-p.rng.Float64(), -1/p.traffic.Tail)
	return int(min(drawn, float64(p.traffic.MaxTurns)))
}

// next gives the group's next question, around its end; where there is no other, any.
func (p *person) next(at int, group string) int {
	for i := 1; i < len(p.questions); i++ {
		if j := (at + i) % len(p.questions); p.questions[j].Group == group {
			return j
		}
	}
	return p.rng.IntN(len(p.questions))
}
