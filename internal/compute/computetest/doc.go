// Package computetest holds the one suite that every compute.Engine must pass. Only tests import it.
package computetest
