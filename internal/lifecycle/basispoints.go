package lifecycle

import "fmt"

// BasisPoints is a share in ten-thousandths: 500 is 5%.
type BasisPoints int32

// Whole is all of it. A canary never gets it: there is no verdict at 100%.
const Whole BasisPoints = 10_000

// Fraction gives the share as a number from 0 to 1.
func (b BasisPoints) Fraction() float64 { return float64(b) / float64(Whole) }

// Valid says whether b is a share at all: 0 to 10,000.
func (b BasisPoints) Valid() bool { return b >= 0 && b <= Whole }

// String gives percent with at most two decimals: "5%", "0.01%".
func (b BasisPoints) String() string {
	switch whole, rest := b/100, b%100; {
	case rest == 0:
		return fmt.Sprintf("%d%%", whole)
	case rest%10 == 0:
		return fmt.Sprintf("%d.%d%%", whole, rest/10)
	default:
		return fmt.Sprintf("%d.%02d%%", whole, rest)
	}
}
