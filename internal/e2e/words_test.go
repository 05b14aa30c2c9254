package e2e

import "strings"

// vocabulary is what the test corpora are made of.
var vocabulary = strings.Fields(`a after all also an and another any are as at be before between both but by call called
can case caller channel check client close closed closes code connection context copy data decides default does done each
empty encode end entry error every fails field file final first flag flush follows for form found from function gives
goroutine handler has have header holds however if in index input inside into is it its key kind last least length less
limit line list lock long made map match may method more most must name never new next no none not nothing number of often
on once one only open option or order other output package page panics pair part passes path pattern place point policy
pool prefix program promises queue range reader reads record reports request result returns root row run same second seen
sends server set several short side signal since size slice so some source start state step stops stream string such sum
table tag takes template test text than that the them then there these they this those time to token tree true type under
unless until up use used user uses value values wait waits was when where which while whole with word work would writer
writes zero`)
