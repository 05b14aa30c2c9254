package load

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/refitml/refit/bench/internal/modelserver"
)

func serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = modelserver.Serve(listener) }() // ends with the listener
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func TestEveryAnswerAndEventIsCounted(t *testing.T) {
	t.Parallel()
	address := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if c := Saturate(ctx, Target{Address: address, Bodies: [][]byte{[]byte(`{}`)}}, 2); c.Answers == 0 || c.Faults > 0 {
		t.Fatalf("%+v", c)
	}
	ask := []byte(`{"messages":[{"content":"` + modelserver.Ask(7, time.Millisecond) + `"}]}`)
	held := false
	if c := Hold(Target{Address: address, Bodies: [][]byte{ask}, Streams: true}, 3, func() { held = true }); c.Answers != 3 || !held {
		t.Fatalf("%+v", c)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	c := Saturate(ctx, Target{Address: address, Bodies: [][]byte{ask}, Streams: true}, 1)
	if c.Events != c.Answers*10 || c.Answers == 0 { // 7 chunks, the last two, and [DONE]
		t.Fatalf("%+v", c)
	}
}

func TestAServerThatIsGoneIsAFault(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	took, c := AtRate(ctx, Target{Address: "127.0.0.1:1", Bodies: [][]byte{[]byte(`{}`)}}, 2, 100)
	if c.Faults == 0 || c.Answers > 0 || len(took) == 0 {
		t.Fatalf("%+v", c)
	}
}
