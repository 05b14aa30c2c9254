package lifecycle

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// everywhere is Feed for a whole text that asks about every byte.
func everywhere(text string) (masked string, found []string) {
	p := FormsOf(PIIKinds()).Scan(true)
	p.buf = text
	for at := 0; at < len(text); {
		kind, n, _ := p.find(at, true)
		if n == 0 {
			masked += text[at : at+1]
			at++
			continue
		}
		masked, found = masked+"["+kind+"]", append(found, kind)
		at += n
	}
	return masked, found
}

// What is skipped holds nothing: every form has an at sign, a digit or a colon near its beginning.
func TestNothingBeginsInWhatIsSkipped(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		for range rapid.IntRange(0, 12).Draw(t, "parts") {
			text.WriteString(rapid.OneOf(
				rapid.SampledFrom([]string{
					"jo.doe+x@mail.example.com", "4111-1111-1111-1111", "DE89 3704 0044 0532 0130 00", "192.168.7.255", "fe80::1", "::1", "abcd:ef::",
					"+49 170 1234567", "(030) 123 45 67", "(((((((((((((((((((((((030) 123 45 67", "@", ":", "5", " ", "é", "\n",
				}),
				rapid.StringOfN(rapid.RuneFrom([]rune("ab.-_ (+/é\x80")), 0, 700, -1),
			).Draw(t, "part"))
		}
		want, wantFound := everywhere(text.String())
		got, found := FormsOf(PIIKinds()).Scan(true).Feed(text.String(), true)
		require.Equal(t, want, got)
		require.Equal(t, wantFound, found)
	})
}

func TestTheNextMarkIsFoundWhereverItStands(t *testing.T) {
	t.Parallel()
	for c := range 256 {
		for at := range 20 {
			s := strings.Repeat("\xff;/", 10)[:at] + string([]byte{byte(c)}) + "\x80 zA;/"
			want := len(s)
			if '0' <= c && c <= ':' {
				want = at
			}
			require.Equal(t, want, nextMark(s, -1, 0), "%q", s)
		}
	}
}
