package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"
)

// A world waits most of the time: one more than there are processors is played at once, where nobody says how many.
func TestMain(m *testing.M) {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1)) // the flag is there
	}
	os.Exit(m.Run())
}
