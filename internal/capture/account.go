package capture

import "slices"

// Account says where the requests of a service went, at one moment. It is read under the same lock under which it
// changes, so at every moment Requests = InFlight + Shed + Waiting + Captured + Dropped, to the unit.
type Account struct {
	Requests int64 // that arrived
	InFlight int64 // being answered
	Shed     int64 // turned away before a model server saw them; nothing is captured of them
	Waiting  int64 // their records are in memory, on the way to the disk or past it to the database
	Captured int64 // their records are kept: in a segment, or in the database already
	Dropped  int64 // their records are lost
}

// Losses say what capture could not keep, of all services.
type Losses struct {
	Records  int64 // requests whose record found room neither on disk nor in memory; the sum of Account.Dropped
	Payloads int64 // texts given up so that records could be kept
	Refused  int64 // captured records that the database does not take
	Damaged  int64 // bytes on disk that could not be read
	Late     int64 // answers that ended before their record was written: the disk was slow, full or read-only
	Unsynced int64 // syncs that failed: a power cut may lose what they covered
}

// Arrived counts a request. Exactly one of Shed and Interaction follows.
func (s *Spool) Arrived(service string) {
	s.mu.Lock()
	a := s.account(service)
	a.Requests++
	a.InFlight++
	s.mu.Unlock()
}

// Shed counts a request that was turned away before a model server saw it.
func (s *Spool) Shed(service string) {
	s.mu.Lock()
	a := s.account(service)
	a.InFlight--
	a.Shed++
	s.mu.Unlock()
}

// Accounts gives the account of each service, all of one moment.
func (s *Spool) Accounts() map[string]Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]Account, len(s.accounts))
	for service, a := range s.accounts {
		out[service] = *a
	}
	return out
}

// Losses gives what was lost since the process started.
func (s *Spool) Losses() Losses {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.losses
}

// refuse counts a captured record that the database does not take.
func (s *Spool) refuse() {
	s.mu.Lock()
	s.losses.Refused++
	s.mu.Unlock()
}

// Writable says whether the disk took what was written last.
func (s *Spool) Writable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing == nil && !s.stalled
}

// Mark is a place in a spool's order of records.
type Mark struct{ segment, offset int64 }

// Mark gives the end of what is written. It is false while records wait that an answer did not wait for.
func (s *Spool) Mark() (m Mark, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil || s.failing != nil || s.stalled || slices.ContainsFunc(s.queue, func(e *entry) bool { return e.late }) {
		return Mark{}, false
	}
	return Mark{s.active.number, s.active.size}, true
}

// Loaded says whether everything before a mark is in the database, or was given up and counted.
func (s *Spool) Loaded(m Mark) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return true
	}
	oldest := s.segments[0].number
	return oldest > m.segment || oldest == m.segment && s.read >= m.offset
}

// account is called with the lock held.
func (s *Spool) account(service string) *Account {
	a := s.accounts[service]
	if a == nil {
		a = new(Account)
		s.accounts[service] = a
	}
	return a
}
