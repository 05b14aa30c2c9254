package registry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/refitml/refit/internal/lifecycle"
)

// FollowConfig says what to follow and how. URL is required, and Service where a route is followed.
type FollowConfig struct {
	URL       string // a direct connection: LISTEN does not survive a transaction pooler
	Service   string
	Poll      time.Duration                       // between looks without a notification; default 500ms
	Answer    time.Duration                       // that one look may take before the connection counts as broken; default 2s
	Backoff   time.Duration                       // longest pause before connecting again; default 2s
	Connected func(connected bool, because error) // told of every change; nil: nobody is
	Log       *slog.Logger                        // default slog.Default()
}

// Follow follows a service's route on a connection of its own, with the registry's address.
func (r *Registry) Follow(ctx context.Context, service string, apply func(lifecycle.Route)) error {
	return Follow(ctx, FollowConfig{URL: r.url, Service: service}, apply)
}

// Follow calls apply with the route at once, and again whenever its generation or its lease counter has grown,
// one call after another. A route of a lower epoch or generation is never applied. It goes on through failures
// of the database and of the service not being declared yet, and returns only when ctx ends, with ctx's error;
// a configuration that cannot work is Invalid.
func Follow(ctx context.Context, config FollowConfig, apply func(lifecycle.Route)) error {
	if config.Service == "" {
		return lifecycle.Errorf(lifecycle.Invalid, "follow a route: give a service")
	}
	r := &routeLook{service: config.Service, apply: apply}
	return follow(ctx, config, "refit_route", "the route of "+config.Service, r.look)
}

// follow looks at once, after every notification on a channel, and every config.Poll, until ctx ends.
func follow(ctx context.Context, config FollowConfig, channel, what string, look func(context.Context, *pgx.Conn) error) error {
	setDefault(&config.Poll, 500*time.Millisecond)
	setDefault(&config.Answer, 2*time.Second)
	setDefault(&config.Backoff, 2*time.Second)
	if config.Log == nil {
		config.Log = slog.Default()
	}
	parsed, err := pgx.ParseConfig(config.URL)
	if err != nil || config.URL == "" {
		return lifecycle.Errorf(lifecycle.Invalid, "follow %s: give an address of PostgreSQL", what)
	}
	parsed.RuntimeParams["application_name"] = "refit-follow"
	f := &follower{config: config, channel: channel, what: what, look: look}
	pause := config.Backoff / 32
	for {
		looks := f.looks
		err := f.session(ctx, parsed)
		f.say(false, err)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if f.looks > looks {
			pause = config.Backoff / 32
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, config.Backoff)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

type follower struct {
	config    FollowConfig
	channel   string // that changes are told on
	what      string // is followed, for people
	look      func(context.Context, *pgx.Conn) error
	looks     int // that the database answered
	connected bool
}

// session follows over one connection until that breaks.
func (f *follower) session(ctx context.Context, parsed *pgx.ConnConfig) error {
	limited, cancel := context.WithTimeout(ctx, f.config.Answer)
	defer cancel()
	conn, err := pgx.ConnectConfig(limited, parsed)
	if err != nil {
		return wrap(err, "reach the registry")
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	// Listening begins before the first look, so nothing falls between the two.
	if _, err := conn.Exec(limited, `LISTEN `+f.channel); err != nil {
		return wrap(err, "listen for %s", f.what)
	}
	for {
		limited, cancel := context.WithTimeout(ctx, f.config.Answer)
		err := f.look(limited, conn)
		cancel()
		if err != nil {
			return err
		}
		f.looks++
		f.say(true, nil)
		waiting, cancel := context.WithTimeout(ctx, f.config.Poll)
		_, err = conn.WaitForNotification(waiting)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return wrap(err, "listen for %s", f.what)
		}
	}
}

// routeLook reads one service's route and hands on what is new.
type routeLook struct {
	service string
	apply   func(lifecycle.Route)
	applied lifecycle.Route
	any     bool // applied holds something
}

func (r *routeLook) look(ctx context.Context, conn *pgx.Conn) error {
	var route lifecycle.Route
	err := conn.QueryRow(ctx, `SELECT `+routeColumns+` FROM routes WHERE service = $1`, r.service).Scan(routeFields(&route)...)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // not declared yet
	}
	if err != nil {
		return wrap(err, "read the route of %s", r.service)
	}
	if r.any && !newer(r.applied, route) {
		return nil
	}
	r.applied, r.any = route, true
	r.apply(route)
	return nil
}

// newer says whether a route that was read may follow the applied one, and is news.
func newer(applied, read lifecycle.Route) bool {
	switch {
	case read.Epoch != applied.Epoch:
		return read.Epoch > applied.Epoch
	case read.Generation != applied.Generation:
		return read.Generation > applied.Generation
	default:
		return read.Lease > applied.Lease
	}
}

func (f *follower) say(connected bool, because error) {
	if f.connected == connected {
		return
	}
	f.connected = connected
	if connected {
		f.config.Log.Info("follows " + f.what)
	} else {
		f.config.Log.Warn("lost the registry; goes on as it was", "following", f.what, "error", because)
	}
	if f.config.Connected != nil {
		f.config.Connected(connected, because)
	}
}
