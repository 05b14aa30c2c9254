package answer

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

var (
	errFirstByte = errors.New("the model server did not begin its answer in time")
	errIdle      = errors.New("the model server fell silent in the middle of its answer")
)

// TooSlow says whether an answer failed because nothing came from the model server in time.
func TooSlow(err error) bool { return errors.Is(err, errFirstByte) || errors.Is(err, errIdle) }

// because prefers the reason of a time limit over "context canceled".
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// watched is the body of an answer that must begin in time, and whose reads end when nothing comes for a while. It has
// one timer for all its reads: a stream has thousands, and nearly none of them is late.
//
//	waiting    for the answer to begin; late ends the call with errFirstByte
//	resting    nobody reads
//	reading    since the time that state holds, in nanoseconds; late ends the read with errIdle
//	over       closed, or ended by the timer
type watched struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	idle   time.Duration
	timer  *time.Timer
	began  time.Time // what reading counts from
	state  atomic.Int64
}

const (
	watchWaiting = -1
	watchResting = 0
	watchOver    = -2
)

func watch(ctx context.Context, cancel context.CancelCauseFunc, firstByte, idle time.Duration) *watched {
	w := &watched{ctx: ctx, cancel: cancel, idle: idle, began: time.Now()}
	w.state.Store(watchWaiting)
	w.timer = time.AfterFunc(firstByte, w.late)
	return w
}

// begun takes the answer's body. It says false where the time was over before.
func (w *watched) begun(body io.ReadCloser) bool {
	w.body = body
	if !w.state.CompareAndSwap(watchWaiting, watchResting) {
		return false
	}
	w.timer.Reset(w.idle)
	return true
}

// late runs when the timer ends. A read that began meanwhile gets the rest of its time.
func (w *watched) late() {
	switch at := w.state.Load(); {
	case at == watchOver:
	case at == watchWaiting:
		if w.state.CompareAndSwap(watchWaiting, watchOver) {
			w.cancel(errFirstByte)
		}
	case at == watchResting:
		w.timer.Reset(w.idle)
	default:
		if left := w.idle - (time.Since(w.began) - time.Duration(at)); left > 0 {
			w.timer.Reset(left)
		} else if w.state.CompareAndSwap(at, watchOver) {
			w.cancel(errIdle)
		}
	}
}

func (w *watched) Read(p []byte) (int, error) {
	w.state.CompareAndSwap(watchResting, max(1, int64(time.Since(w.began))))
	n, err := w.body.Read(p)
	if at := w.state.Load(); at > watchResting {
		w.state.CompareAndSwap(at, watchResting)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = because(w.ctx, err)
	}
	return n, err
}

func (w *watched) end() {
	w.state.Store(watchOver)
	w.timer.Stop()
	w.cancel(nil)
}

// Close ends the call.
func (w *watched) Close() error {
	w.end()
	return w.body.Close()
}
