package rollout

import "github.com/refitml/refit/internal/lifecycle"

// Access is one user request as it was served, in the order of admission.
type Access struct {
	Canary bool
	Share  lifecycle.BasisPoints // that was allowed when it was admitted
}

// Served is what an access sequence shows. Excesses are in requests; the exposure rule keeps Prefix at 0 and Window
// at the cap B or below. An excess is never negative: the empty prefix and window count.
type Served struct {
	Requests int64
	Canary   int64
	Allowed  float64 // Σp, in requests
	Prefix   float64 // largest canary requests minus Σp over all prefixes
	Window   float64 // the same over all windows

	// Highest is the canary's largest part of any Width successive requests, in basis points; of all requests where
	// there are fewer.
	Highest lifecycle.BasisPoints
	Width   int
}

// Reached gives the share that was served over the whole sequence, in basis points rounded down; 0 without requests.
func (s Served) Reached() lifecycle.BasisPoints {
	if s.Requests == 0 {
		return 0
	}
	return lifecycle.BasisPoints(s.Canary * unit / s.Requests)
}

// Within says whether the exposure bound held: every prefix, every window plus inFlight requests, which may have been
// counted here before or after they were admitted.
func (s Served) Within(limit, inFlight float64) bool {
	return s.Prefix <= inFlight && s.Window <= limit+inFlight
}

// Audit counts an access sequence in one pass, with the highest share over windows of width requests (default 1,000
// where it is not positive). The arithmetic is in integers.
func Audit(accesses []Access, width int) Served {
	if width <= 0 {
		width = 1000
	}
	width = min(width, len(accesses))
	var canary, allowed, prefix, window, running, inside, highest int64
	for i, a := range accesses {
		step := -int64(a.Share)
		allowed += int64(a.Share)
		if a.Canary {
			canary++
			inside++
			step += unit
		}
		prefix = max(prefix, canary*unit-allowed)
		running = max(0, running) + step
		window = max(window, running)
		if i >= width && accesses[i-width].Canary {
			inside--
		}
		if i >= width-1 {
			highest = max(highest, inside)
		}
	}
	out := Served{
		Requests: int64(len(accesses)), Canary: canary, Width: width,
		Allowed: float64(allowed) / float64(unit),
		Prefix:  float64(prefix) / float64(unit), Window: float64(window) / float64(unit),
	}
	if width > 0 {
		out.Highest = lifecycle.BasisPoints(highest * unit / int64(width))
	}
	return out
}
