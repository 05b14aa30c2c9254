package stats

import (
	"errors"
	"fmt"
	"math"
)

// ErrInput is what every function here gives for numbers that cannot be.
var ErrInput = errors.New("statistics: numbers that cannot be")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInput, fmt.Sprintf(format, args...))
}

func finite(values ...float64) bool {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// inside says whether p lies strictly between 0 and 1; NaN does not.
func inside(p float64) bool { return p > 0 && p < 1 }
