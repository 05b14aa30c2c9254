package lifecycle

import "strconv"

func itoa(n int) string { return strconv.Itoa(n) }

func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	return strconv.Quote(s)
}
