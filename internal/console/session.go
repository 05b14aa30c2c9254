package console

import (
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/refitml/refit/internal/control"
	"github.com/refitml/refit/internal/lifecycle"
)

const (
	sessionCookie = "refit-session"
	sessionTime   = 12 * time.Hour
	maxSessions   = 1000
	maxForm       = 16 << 10 // bytes of a sign-in
)

// sessions are who signed in at this process, by the digest of what their cookie holds. A restart ends them.
type sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]session
}

type session struct {
	caller control.Caller
	until  time.Time
}

// add opens a session and gives the cookie's value. It ends with the token that opened it, where that ends (until is
// not zero). Where there are too many the one that ends first is ended.
func (s *sessions) add(caller control.Caller, now, until time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[[sha256.Size]byte]session{}
	}
	for len(s.open) >= maxSessions {
		var first [sha256.Size]byte
		var at time.Time
		for key, one := range s.open {
			if at.IsZero() || one.until.Before(at) {
				first, at = key, one.until
			}
		}
		delete(s.open, first)
	}
	ends := now.Add(sessionTime)
	if !until.IsZero() && until.Before(ends) {
		ends = until
	}
	value := rand.Text()
	s.open[sha256.Sum256([]byte(value))] = session{caller, ends}
	return value
}

func (s *sessions) find(value string, now time.Time) (control.Caller, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(value))
	one, ok := s.open[key]
	if ok && !now.Before(one.until) {
		delete(s.open, key)
		ok = false
	}
	return one.caller, ok
}

func (s *sessions) end(value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(value)))
}

// visitor says who looks at the page: who signed in, else, unless SignIn is asked of everybody, anybody on
// this machine as a viewer.
func (c *console) visitor(r *http.Request) (caller control.Caller, signedIn, ok bool) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		if caller, ok := c.sessions.find(cookie.Value, c.cfg.Now()); ok {
			return caller, true, true
		}
	}
	if c.cfg.SignIn || !fromThisMachine(r) {
		return control.Caller{}, false, false
	}
	return control.Caller{Name: "this machine", Role: control.Viewer, Via: "console"}, false, true
}

// fromThisMachine: the connection comes from it, and the browser was sent to it. The second keeps away pages of
// others whose name was made to point here, and most proxies.
func fromThisMachine(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(host) || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	asked, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		asked = r.Host
	}
	return asked == "localhost" || isLoopback(asked)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

type signInData struct{ Fault string }

func (c *console) serveSignIn(w http.ResponseWriter, r *http.Request) {
	c.render(w, r, http.StatusOK, "sign-in.html", signInData{})
}

func (c *console) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	caller, until, err := c.bearer(r.Context(), strings.TrimSpace(r.PostFormValue("token")), "console")
	switch {
	case lifecycle.Is(err, lifecycle.Refused):
		c.render(w, r, http.StatusUnauthorized, "sign-in.html", signInData{"No such token."})
		return
	case err != nil:
		c.render(w, r, http.StatusServiceUnavailable, "sign-in.html", signInData{c.unread(r, "The token could not be checked", err)})
		return
	}
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: c.sessions.add(caller, c.cfg.Now(), until), Path: "/", MaxAge: int(sessionTime.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (c *console) signOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		c.sessions.end(cookie.Value)
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
}
